"""The code in README and docs runs as it stands there, and the table of options is the config's.

The recipes in docs/security.md are for clusters that are elsewhere: they have to make a producer
whose files can be read and whose mechanism can be made.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import os
import re
import sys
import textwrap
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, get_args
from unittest.mock import Mock

import pytest

import aioproducer
from aioproducer import KafkaError, Producer, ProducerConfig, RecordMetadata
from aioproducer.config import SaslMechanism
from aioproducer.network.connecting import connection_options
from aioproducer.testing import FakeCluster
from tests.support.certificates import Authority
from tools.options_table import PAGE, with_table

pytest_plugins = ["pytester"]

ROOT = PAGE.parent.parent


def _snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", Path(ROOT, page).read_text(), re.DOTALL)


APP, TEST, WAYS, *PARTS = _snippets("README.md") + _snippets("docs/errors.md")
SECURITY = Path(ROOT, "docs/security.md").read_text()
HEADINGS = re.findall(r"^##+ (.*)", SECURITY, re.MULTILINE)
RECIPES = _snippets("docs/security.md")
SECRET = "canary-secret-recipe"


def _as_coroutine(code: str, names: dict[str, Any]) -> Any:
    """Wrap statements that await into a coroutine function over `names`."""
    source = f"async def snippet():\n{textwrap.indent(code, '    ')}"
    exec(compile(source, "README.md", "exec"), names)
    return names["snippet"]


def test_the_table_of_options_is_the_config() -> None:
    page = PAGE.read_text()

    assert with_table(page) == page


async def test_the_ways_to_send_run() -> None:
    reports: list[KafkaError | None] = []

    def report(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        reports.append(error)

    async with FakeCluster(topics={"payments": 1, "clicks": 1}) as cluster:
        code = WAYS.replace("localhost:9092", cluster.bootstrap_servers)
        await _as_coroutine(code, {"Producer": Producer, "report": report})()
        assert len(cluster.records("payments")) == 3
        assert len(cluster.records("clicks")) == 1
    assert reports == [None]


@pytest.mark.timeout(60)  # It starts a Python and a pytest.
def test_the_first_application_passes_its_test(pytester: pytest.Pytester) -> None:
    Path(pytester.path, "app.py").write_text(APP)
    Path(pytester.path, "test_app.py").write_text(TEST)
    result = pytester.runpytest_subprocess(
        *("-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error", "--strict-markers"),
        *("-o", "pythonpath=."),
        timeout=60,
    )
    result.assert_outcomes(passed=1)


def test_the_readme_is_read_in_a_minute() -> None:
    assert len(Path(ROOT, "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("code", PARTS, ids=[str(index) for index in range(len(PARTS))])
async def test_each_snippet_runs(code: str) -> None:
    async with (
        FakeCluster(topics={"payments": 1}) as cluster,
        Producer(bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        await _as_coroutine(code, {"KafkaError": KafkaError, "producer": producer})()
        assert cluster.records("payments")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the recipes find where they are copied to: files, the environment, packages."""
    authority = Authority()
    client = authority.client("payments")
    authority.write(tmp_path / "ca.pem")
    client.write_apart(tmp_path / "service.cert", tmp_path / "service.key")
    (tmp_path / "client.pem").write_text(client.certificate_pem)
    (tmp_path / "client.key").write_text(client.encrypted_key_pem(SECRET))
    (tmp_path / "password.txt").write_text(f"{SECRET}\n")
    monkeypatch.chdir(tmp_path)
    for variable in re.findall(r'os\.environ\["(\w+)"\]', SECURITY):
        monkeypatch.setenv(variable, SECRET)
    boto3 = Mock()
    secret = {"SecretString": f'{{"username": "payments", "password": "{SECRET}"}}'}
    boto3.client("secretsmanager").get_secret_value.return_value = secret
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    # It compiles against Kerberos's library, which is not everywhere.
    gssapi = ModuleType("gssapi")
    gssapi.__spec__ = ModuleSpec("gssapi", None)
    monkeypatch.setitem(sys.modules, "gssapi", gssapi)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("code", RECIPES, ids=[str(index) for index in range(len(RECIPES))])
async def test_each_recipe_makes_a_producer_that_can_log_in(code: str) -> None:
    names: dict[str, Any] = {"os": os, "Producer": Producer}
    await asyncio.to_thread(exec, compile(code, "docs/security.md", "exec"), names)
    config: ProducerConfig = names["producer"].config

    options = connection_options(config)
    assert options.tls is not None
    assert (await options.tls.context()).check_hostname
    assert (options.mechanism is None) == (config.security_protocol == "SSL")
    password: object = config.sasl_password
    if callable(password):
        password = await asyncio.to_thread(password)
    assert password in (None, SECRET)
    assert SECRET not in repr(config)
    if "tokens" in names:
        await names["tokens"].aclose()


def test_each_mechanism_has_a_recipe() -> None:
    code = "\n".join(RECIPES)
    assert set(re.findall(r'sasl_mechanism="(.*)"', code)) == set(get_args(SaslMechanism))


def test_the_page_on_security_names_only_options_that_there_are() -> None:
    options = {option.name for option in dataclasses.fields(ProducerConfig)}
    assert set(re.findall(r"\bs(?:sl|asl)_[a-z]\w*", SECURITY)) <= options


def test_the_page_on_security_quotes_what_the_producer_says() -> None:
    said = "\n".join(_texts()).lower()
    _, table = SECURITY.split("\n| says | change |\n")
    rows = [line for line in table.partition("\n\n")[0].splitlines() if line.startswith('| "')]
    quoted = [text for row in rows for text in re.findall(r'"(.*?)"', row.split("|")[1])]

    assert len(rows) > 20
    assert [text for text in quoted if text.lower() not in said] == []


def test_the_page_on_security_links_to_its_own_sections() -> None:
    anchors = {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in HEADINGS}
    assert set(re.findall(r"\(#(.*?)\)", SECURITY)) <= anchors


def _texts() -> list[str]:
    """All text in the package's code; what f-strings put in between is left out."""
    return [
        node.value
        for file in Path(aioproducer.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
