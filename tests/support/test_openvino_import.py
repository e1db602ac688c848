import subprocess
import sys

CODE = """
import sys
{statement}
import openvino
print("openvino_telemetry" in sys.modules, openvino.Core().available_devices != [], callable(openvino.convert_model))
print(len(events))
"""
# A stand-in for the package that would report to the network.
SPY = """
import importlib.machinery, sys, types
events = []
class Telemetry:
    def __init__(self, *args, **kwargs): pass
    def send_event(self, *args, **kwargs): events.append(args)
spy = types.ModuleType("openvino_telemetry")
spy.Telemetry, spy.__path__ = Telemetry, []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "openvino_telemetry":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec): return spy if spec.name == "openvino_telemetry" else types.ModuleType(spec.name)
    def exec_module(self, module): module.backend_ga4 = None
sys.meta_path.insert(0, Finder())
"""


def run(statement):
    code = SPY + CODE.format(statement=statement)
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120).stdout


def test_nothing_is_reported():
    statement = "from nnsam.support.openvino import import_openvino; import_openvino()"
    assert run(statement).split() == ["False", "True", "True", "0"]


def test_the_spy_sees_what_openvino_reports_otherwise():
    words = run("").split()
    assert words[0] == "True"
    assert int(words[-1]) > 0
