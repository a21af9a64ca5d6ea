"""Operations are described in full, and their examples work."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.web.openapi import OPERATIONS, openapi_document
from app.web.operations import IMAGE_ID, JOB_ID, OTHER_ID, Operation
from tests.conftest import Server
from tests.curl import run_curl
from tests.image_host import ImageHost
from tests.samples import altered, png

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.name)


def document_of(operation: Operation) -> dict[str, Any]:
    return openapi_document()["paths"][operation.path][operation.method]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return openapi_document()["components"]["schemas"][name] if name else schema


def check_example(schema: dict[str, Any], example: object) -> None:
    components = openapi_document()["components"]
    Draft202012Validator({**schema, "components": components}).validate(example)


def test_names_are_unique() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in names)


@each_operation
def test_an_operation_is_described(operation: Operation) -> None:
    document = document_of(operation)
    assert len(document["summary"]) <= 100
    assert document["tags"][0] in [tag["name"] for tag in openapi_document()["tags"]]
    for parameter in document.get("parameters", []):
        assert parameter.get("description") or parameter["in"] == "path", parameter
        if "example" in parameter:
            check_example(parameter["schema"], parameter["example"])
    for content in document.get("requestBody", {}).get("content", {}).values():
        if "example" in content:
            check_example(content["schema"], content["example"])
        for name, field in resolved(content["schema"]).get("properties", {}).items():
            assert field.get("description") or "$ref" in field, name
    for answer in document["responses"].values():
        for content in answer.get("content", {}).values():
            if "example" in content:
                check_example(content["schema"], content["example"])


@each_operation
def test_every_body_and_selection_has_an_example(operation: Operation) -> None:
    if operation.body is not None:
        assert operation.example is not None
    if operation.form is not None:
        assert operation.form.example
        assert set(operation.form.example) <= set(
            resolved({"$ref": f"/{operation.form.name}"})["properties"]
        )
    asked = {p["name"] for p in document_of(operation).get("parameters", []) if p["in"] == "query"}
    assert set(operation.asks) <= asked


@each_operation
def test_the_example_of_curl_works(operation: Operation, server: Server, host: ImageHost) -> None:
    images = [{"url": host.url(f"seed/{n}.png"), "tags": ["boat"]} for n in range(2)]
    ids = [outcome["id"] for outcome in server.upsert(images)]
    job = str(server.start([host.url("seed/0.png")])["id"])
    server.done(int(job))
    if operation.tag == "Trash":
        server.client.delete("/api/images", params={"q": "boat", "trash": True})
    Path("photo.jpg").write_bytes(altered(png(1)))
    [command] = [sample["source"] for sample in document_of(operation)["x-codeSamples"]]
    command = command.replace(IMAGE_ID, ids[0]).replace(OTHER_ID, ids[1])
    command = command.replace(f"/jobs/{JOB_ID}", f"/jobs/{job}")
    # What the example names on the web is not asked for here.
    command = re.sub(r"https://example.com/\w+.jpg", host.url("seed/1.png"), command)
    answer = run_curl(server.client, command)
    if operation.name == "caption":
        # This server has no CAPTION_MODEL.
        assert (answer.status_code, "CAPTION_MODEL" in answer.text) == (422, True)
    elif operation.tag == "People":
        # Nor does it look for faces.
        assert (answer.status_code, "FACES" in answer.text) == (403, True)
    elif operation.name == "show_original":
        assert (answer.status_code, answer.headers["location"]) == (307, images[0]["url"])
    else:
        assert answer.status_code == operation.status, answer.text


@pytest.mark.parametrize("separator", [",", "&{name}="])
def test_lists_are_repeated_or_separated_by_commas(
    server: Server, host: ImageHost, separator: str
) -> None:
    ids = [o["id"] for o in server.upsert([host.url(f"seed/{n}.png") for n in range(3)])]

    def joined(name: str, values: list[str]) -> str:
        return f"{name}=" + separator.replace("{name}", name).join(values)

    def found(**lists: list[str]) -> int:
        query = "&".join(joined(name, values) for name, values in lists.items())
        answer = server.client.get(f"/api/facets?{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()["total"]

    assert found(orientations=["square", "portrait"]) == 3
    assert found(orientations=["landscape", "portrait"]) == 0
    assert found(box=["-180", "-90", "180", "90"]) == 0
    kind = {"content-type": "application/x-www-form-urlencoded"}
    content = joined("like", ids[:2]) + "&" + joined("box", ["-180", "-90", "180", "90"])
    assert server.client.post("/api/search", content=content, headers=kind).json()["results"] == []
    liked = server.client.post("/api/search", content=joined("like", ids[:2]), headers=kind).json()
    assert [hit["id"] for hit in liked["results"]] == ids[2:]
    answer = server.client.delete("/api/images?" + joined("ids", ids[:2]))
    assert answer.json() == {"deleted": 2}


def test_a_value_of_a_list_may_have_commas(server: Server, host: ImageHost) -> None:
    server.upsert([{"url": host.url("seed/1.png"), "tags": ["red, round"]}])
    for tags, count in [("red, round", 1), ("red", 0)]:
        assert server.client.get("/api/facets", params={"tags": tags}).json()["total"] == count
