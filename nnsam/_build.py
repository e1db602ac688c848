"""Build-time only: adds the start-up hook to wheels, ordinary and editable. Never imported at run time."""

from pathlib import Path

from setuptools.command.build_py import build_py

STARTUP_FILES = {
    "nnsam.pth": "import nnsam._autoload; nnsam._autoload.register()\n",
    # PEP 829: from Python 3.15 on a .start file replaces the import line of the .pth file of the same name.
    "nnsam.start": "nnsam._autoload:register\n",
}


class BuildPyWithStartupHook(build_py):
    """Writes the hook files beside the package, that is into site-packages once installed."""

    def run(self) -> None:
        super().run()
        root = self._root()
        root.mkdir(parents=True, exist_ok=True)
        for name, text in STARTUP_FILES.items():
            (root / name).write_text(text)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        if not self.editable_mode:
            outputs += [str(self._root() / name) for name in STARTUP_FILES]
        return outputs

    def _root(self) -> Path:
        # For editable wheels setuptools points install_lib at the unpacked wheel; it is packed whole afterwards.
        return Path(self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib)
