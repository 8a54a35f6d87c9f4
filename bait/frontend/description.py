"""The description of an HTTP service in OpenAPI 3.1, made from its endpoints."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bait.frontend.endpoints import Endpoint

_REFERENCE = "#/components/schemas/{model}"


def describe(
    title: str,
    summary: str,
    version: str,
    endpoints: Iterable[Endpoint],
    fault: type[BaseModel],
    faults: Mapping[int, str],
) -> dict[str, Any]:
    """The document. Each endpoint may answer with each of `faults`, a status and what it means; the
    body is then a `fault`."""
    paths: dict[str, dict[str, Any]] = {}
    models = {fault}
    refused = {
        str(status): {"description": what, "content": _content(fault)}
        for status, what in faults.items()
    }
    for each in endpoints:
        models |= {model for model in (each.body, each.answers) if model}
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each) | {
            "responses": _answers(each) | refused
        }
    named = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation") for model in named], ref_template=_REFERENCE
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "summary": summary, "version": version},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    name = endpoint.function.__name__
    found: dict[str, Any] = {
        "operationId": name,
        "summary": name.replace("_", " "),
        "description": " ".join((endpoint.function.__doc__ or "").split()),
        "parameters": [
            {
                "name": name,
                "in": "path" if f"{{{name}}}" in endpoint.path else "query",
                "required": each.required,
                "schema": each.form.json_schema(),
            }
            for name, each in endpoint.parameters.items()
        ],
    }
    if endpoint.body:
        found["requestBody"] = {"required": True, "content": _content(endpoint.body)}
    return found


def _answers(endpoint: Endpoint) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "As asked."}
    if endpoint.answers:
        good["content"] = _content(endpoint.answers)
    also = {str(status): {"description": what} for status, what in endpoint.also.items()}
    return {str(endpoint.status): good} | also


def _content(model: type[BaseModel]) -> dict[str, Any]:
    reference = _REFERENCE.format(model=model.__name__)
    return {"application/json": {"schema": {"$ref": reference}}}
