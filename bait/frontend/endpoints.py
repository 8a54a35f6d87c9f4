"""Endpoints of an HTTP service, each a function whose signature says what it takes.

Parameters of the path and of the query, and a body, which is a pydantic model, are checked before
the function is called, and so is its answer before it is sent. FastAPI does this too, and more: it
would be a tenth of the memory of a daemon that runs on every node.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

_JSON = "application/json"
_BODILESS = 204

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True)
class Parameter:
    """Of the path, or of the query, where it may have a default."""

    form: TypeAdapter[Any]
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether there is no request without it."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Endpoint:
    """What one method of one path takes and answers."""

    method: str
    path: str
    status: int  # of the answer, if all is well
    answers: type[BaseModel] | None  # None: null, or no body
    also: Mapping[int, str]  # other statuses of success, and what they mean
    function: Callable[..., Awaitable[Any]]
    takes: Mapping[str, Parameter | type[BaseModel] | type[Request]]  # by argument

    @property
    def body(self) -> type[BaseModel] | None:
        """The form of its requests' body; None: they have none."""
        bodies = (each for each in self.takes.values() if isinstance(each, type))
        return next((each for each in bodies if issubclass(each, BaseModel)), None)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Those of the path and of the query, by name."""
        return {name: each for name, each in self.takes.items() if isinstance(each, Parameter)}

    @property
    def route(self) -> Route:
        """Where the application finds it."""
        found = Route(self.path, self.answer, methods=[self.method], name=self.function.__name__)
        found.methods = {self.method}  # no HEAD beside a GET
        return found

    async def answer(self, request: Request) -> Response:
        """Call the function. Raises HTTPException if the request is malformed."""
        given = {**request.query_params, **request.path_params}
        values: dict[str, Any] = {}
        for name, each in self.takes.items():
            if isinstance(each, Parameter):
                if name in given or each.required:
                    values[name] = _checked(each.form.validate_python, given.get(name), name)
            elif issubclass(each, BaseModel):
                values[name] = _checked(each.model_validate_json, await _body(request), "body")
            else:
                values[name] = request
        found = await self.function(**values)
        if isinstance(found, Response):
            return found
        if self.status == _BODILESS:
            return Response(status_code=self.status)
        text = self.answers.model_validate(found).model_dump_json() if self.answers else "null"
        return Response(text, self.status, media_type=_JSON)


class Endpoints:
    """The endpoints of a service, in the order in which they are looked for."""

    def __init__(self) -> None:
        self.all: list[Endpoint] = []

    def __call__(
        self,
        method: str,
        path: str,
        status: int = 200,
        answers: type[BaseModel] | None = None,
        also: Mapping[int, str] | None = None,
    ) -> Callable[[F], F]:
        """A decorator: the function answers this method of this path, see Endpoint."""

        def added(function: F) -> F:
            takes = {
                name: _taken(each) for name, each in inspect.signature(function).parameters.items()
            }
            self.all.append(Endpoint(method, path, status, answers, also or {}, function, takes))
            return function

        return added


def _taken(argument: inspect.Parameter) -> Parameter | type[BaseModel] | type[Request]:
    kind: Any = argument.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel | Request):
        return kind
    return Parameter(TypeAdapter(kind), argument.default)


def _checked(check: Callable[[Any], Any], value: object, where: str) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or where
        raise HTTPException(400, f"{place}: {fault['msg']}") from None


async def _body(request: Request) -> bytes:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != _JSON:
        raise HTTPException(400, f"body: must be there, as {_JSON}")
    try:
        return await request.body()
    except ClientDisconnect:
        raise HTTPException(400, "body: its sender went away") from None
