"""Making a mechanism blocks no event loop: what is slow waits for the first exchange's thread."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from aioproducer.config import ProducerConfig
from aioproducer.network.sasl import mechanism_of


@pytest.mark.parametrize(
    ("options", "unloaded"),
    [
        ({"sasl_mechanism": "AWS_MSK_IAM"}, "botocore"),
        (
            {
                "sasl_mechanism": "OAUTHBEARER",
                "sasl_oauthbearer_token_endpoint_url": "https://idp.example/token",
                "sasl_oauthbearer_assertion_private_key_file": "key.pem",
                "sasl_oauthbearer_assertion_claim_iss": "kafka-client",
            },
            "jwt",
        ),
    ],
)
async def test_a_package_of_others_is_not_loaded_on_the_event_loop(
    options: dict[str, Any], unloaded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == unloaded]:
        monkeypatch.delitem(sys.modules, name)
    config = ProducerConfig(bootstrap_servers="localhost", security_protocol="SASL_SSL", **options)
    assert mechanism_of(config) is not None
    assert unloaded not in sys.modules
