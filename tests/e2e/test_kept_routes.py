"""What a gateway without Redis keeps over a restart, in its repository as users run it."""

from __future__ import annotations

from pathlib import Path

from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import QUICK_STOP, GatewayProcess, ask, running_gateway

KEYS = [f"customer-{number}" for number in range(40)]
SEED = """
[routes.seeded]
variants = [
  {name = "stable", model = "echo", version = 1, weight = 50},
  {name = "challenger", model = "echo", version = 2, weight = 50},
]
reason = "to begin with"
"""


def who_answers(gateway: GatewayProcess, route: str) -> dict[str, tuple[str, str]]:
    """Ask with every key, and return the variant and the revision that answered it."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
    answers = {key: gateway.ask(f"/v2/models/{route}/infer", "POST", body, {"x-routing-key": key}) for key in KEYS}
    assert {answer.status for answer in answers.values()} == {200}
    return {
        key: (answer.headers["x-gateway-variant"], answer.headers["x-gateway-revision"])
        for key, answer in answers.items()
    }


def test_routes_their_keys_and_their_history_survive_a_restart(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for version in (1, 2):
        add_version(repository, "echo", version, onnx_models.affine(1, offset=float(version)))
    (repository / "echo" / "model.toml").write_text("versions = {latest = 1}\n")
    flags = ("--state-dir", str(repository / ".gateway"))
    with running_gateway(repository, config=QUICK_STOP + SEED, arguments=flags) as gateway:
        seeded = gateway.ask_admin("/admin/v1/routes/seeded").json
        assert (seeded["revision"], seeded["reason"]) == (1, "to begin with")
        assert gateway.state("echo", 1) == "READY"  # a routed version loads, whatever model.toml selects
        for weight in (10, 80, 30):
            shift = {"weights": {"challenger": weight}, "reason": f"to {weight}"}
            assert gateway.ask_admin("/admin/v1/routes/seeded/shift", "POST", shift).status == 200
        before = who_answers(gateway, "seeded")
        assert {variant for variant, _ in before.values()} == {"stable", "challenger"}
        refused = gateway.ask_admin("/admin/v1/models/echo/versions/1/unload", "POST")
        assert refused.status == 409
        assert "'seeded'" in refused.body.decode()
    assert (repository / ".gateway").stat().st_mode & 0o077 == 0
    with running_gateway(repository, config=QUICK_STOP + SEED, arguments=flags) as again:
        assert who_answers(again, "seeded") == before
        history = again.ask_admin("/admin/v1/routes/seeded/history").json["revisions"]
        assert [(entry["revision"], entry["reason"]) for entry in history] == [
            (4, "to 30"),
            (3, "to 80"),
            (2, "to 10"),
            (1, "to begin with"),
        ]
        aborted = again.ask_admin("/admin/v1/routes/seeded/abort", "POST", {})
        assert (aborted.status, aborted.json["revision"]) == (200, 5)
        back = again.ask_admin("/admin/v1/routes/seeded/rollback", "POST", {"revision": 4}).json
        assert back["revision"] == 6
        assert {key: variant for key, (variant, _) in who_answers(again, "seeded").items()} == {
            key: variant for key, (variant, _) in before.items()
        }
        etag = ask(f"{again.admin_url}/admin/v1/routes/seeded").headers["etag"]
        deleted = ask(f"{again.admin_url}/admin/v1/routes/seeded", "DELETE", headers={"if-match": etag})
        assert deleted.status in (200, 204)
        assert again.ask_admin("/admin/v1/routes/seeded").status == 404
