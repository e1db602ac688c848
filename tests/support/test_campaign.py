"""That the campaign of kills sees what it looks for; `tests/integration/test_campaigns.py` runs a short one."""

import json

import pytest
from campaigns.kills import SCENARIOS, Campaign, _hashes

from nnsam.cli.main import build_parser


@pytest.fixture
def campaign(tmp_path):
    (tmp_path / "stage").mkdir()
    return Campaign(tmp_path / "stage")


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    (folder / ".tmp").mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps({"a": 1}))
    (folder / "scores.csv").write_text("a")
    return folder


def test_whole_files_are_no_fault(campaign, work):
    campaign._look("x", "evaluate", work, _hashes(work), "", tidy=True)
    assert campaign.faults == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda work: (work / "scores.json").write_text('{"a":'), "half-written"),
        (lambda work: (work / "scores.csv").write_text(""), "half-written or wrong"),
        (lambda work: (work / "other.csv").write_text(""), "half-written or wrong"),
        (lambda work: (work / ".nnsam-000000-0123456789ab.a").touch(), "left behind"),
        (lambda work: (work / ".tmp" / "patient").touch(), "left behind"),
    ],
)
def test_faults_are_seen(campaign, work, spoil, words):
    expected = _hashes(work)
    spoil(work)
    campaign._look("x", "evaluate", work, expected, "", tidy=True)
    assert any(words in fault for fault in campaign.faults)


def test_stack_traces_are_seen(campaign, work):
    campaign._look("x", "evaluate", work, _hashes(work), "Traceback (most recent call last):", tidy=True)
    assert "stack trace" in campaign.faults[0]


@pytest.mark.parametrize("name", SCENARIOS)
def test_commands_of_the_campaign_are_ones(name):
    scenario = SCENARIOS[name]
    words = f"{scenario.words} {scenario.again}".split()
    build_parser(words[0]).parse_args(words)
