"""The schemas of requests and responses for /openapi.json. docs/records.md describes records."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from maskwatch.records import JSON_SCHEMA
from maskwatch.serve.core.bodies import DetectBody
from maskwatch.serve.core.problem import MEDIA_TYPE
from maskwatch.serve.core.uploads import FIELD

_REFS = "#/components/schemas/{model}"


class Found(BaseModel):
    """A face: `box` is left, top, right, bottom in pixels of the picture."""

    class_: str = Field(alias="class", examples=["no_mask"])
    class_id: int = Field(examples=[1])
    score: float = Field(ge=0, le=1, examples=[0.9312])
    box: list[float] = Field(min_length=4, max_length=4, examples=[[411.2, 96.05, 502.71, 210.4]])


class PictureResult(BaseModel):
    """The detections in a picture; `index` is its position in the request, from 0."""

    index: int = Field(ge=0, examples=[0])
    source: str = Field(examples=["door.jpg"])
    kind: str = Field(examples=["picture"])
    frame: int | None
    time_s: float | None
    width: int = Field(examples=[1280])
    height: int = Field(examples=[720])
    detections: list[Found]
    annotated: str | None = Field(None, description="The annotated picture as a data: address.")


class Failure(BaseModel):
    """A picture that could not be read; `index` is its position in the request, from 0."""

    index: int = Field(ge=0, examples=[1])
    source: str = Field(examples=["torn.jpg"])
    reason: str = Field(examples=["the file is empty; get a complete copy of it"])


class ModelHead(BaseModel):
    """The model and the thresholds of this request."""

    name: str = Field(examples=["maskwatch-640"])
    version: str
    classes: list[str] = Field(examples=[["mask", "no_mask", "mask_incorrect"]])
    thresholds: dict[str, float]


class Records(BaseModel):
    """The answer of `POST /v1/detect`."""

    schema_: str = Field(alias="schema", examples=[JSON_SCHEMA])
    maskwatch: str
    model: ModelHead
    results: list[PictureResult]
    failures: list[Failure]


class ServedModel(ModelHead):
    """A model that is loaded."""

    default: bool
    input_size: list[int] = Field(min_length=2, max_length=2, examples=[[640, 640]])
    resize: str = Field(examples=["letterbox"])
    box_voting: bool
    trained_on: str
    file: str = Field(examples=["/v1/models/maskwatch-640.onnx?v=0123456789abcdef"])
    backend: dict[str, str] = Field(
        examples=[{"runtime": "onnxruntime", "device": "cpu", "precision": "float32"}],
        description="What the service runs it on.",
    )
    bytes: int
    sha256: str


class ServedModels(BaseModel):
    """The answer of `GET /v1/models`."""

    models: list[ServedModel]


class Ticket(BaseModel):
    """A token for the address of a stream, where a browser can send no header."""

    ticket: str
    expires_s: int = Field(examples=[60])


class FeedbackOffered(BaseModel):
    """The answer of `GET /v1/feedback`."""

    kept: bool = Field(description="The service stores what is sent; always true.")


class FeedbackKept(BaseModel):
    """The answer of `POST /v1/feedback`."""

    kept: bool = Field(description="False for a near-duplicate of a picture that is stored already.")


class WatchedPerson(BaseModel):
    """A person in front of a source: `box` is left, top, right, bottom in pixels of the frame."""

    track: int
    state: str | None = Field(
        examples=["no_mask"], description="A class name; null while the first frames have not decided it."
    )
    since_s: float = Field(description="Seconds in this state; since the first frame, while it is null.")
    alert: bool
    static: bool = Field(description="The face has not moved for minutes: a picture, which has no state.")
    zones: list[str]
    box: list[float] = Field(min_length=4, max_length=4)


class WatchedSource(BaseModel):
    """A source that is watched; `counts` has people since the start by their last state."""

    name: str = Field(examples=["door"])
    state: str = Field(examples=["live"])
    reason: str = Field(description="Why the source is not live; empty while it is.")
    fps: float
    frames: int
    dropped: int
    width: int | None
    height: int | None
    people: list[WatchedPerson]
    counts: dict[str, int]
    stream: str = Field(examples=["/v1/watch/door.mjpg"])


class WatchedSink(BaseModel):
    """A receiver of events: how many it took, wait, and are lost; and its error, or null."""

    name: str
    sent: int
    waiting: int
    lost: int
    error: str | None


class WatchDocument(BaseModel):
    """The answer of `GET /v1/watch`; docs/events.md describes events."""

    run: str
    sources: list[WatchedSource]
    sinks: list[WatchedSink]
    events: list[dict[str, Any]]


class State(BaseModel):
    """The answer of `/healthz` and `/readyz`."""

    status: str = Field(examples=["ok"])


class ProblemDetails(BaseModel):
    """An error, as in RFC 9457. `failures` is present where no picture of a request could be read."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["threshold of mask is 2.0; pass a number from 0 to 1"])
    instance: str = Field(examples=["/v1/detect"])
    failures: list[Failure] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: these statuses as problem JSON."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REFS.format(model="ProblemDetails")}}}
    answer = {"description": "See docs/service.md, Errors.", "content": content}
    return dict.fromkeys(statuses, answer)


def add_problem_schema(document: dict[str, Any]) -> None:
    """Adds the schema that `problems` refers to; FastAPI itself would declare it as application/json."""
    schema = ProblemDetails.model_json_schema(ref_template=_REFS)
    schemas = document["components"]["schemas"]
    schemas |= schema.pop("$defs")
    schemas["ProblemDetails"] = schema


def detect_body() -> dict[str, Any]:
    """For `openapi_extra=`: the three ways to send pictures."""
    picture = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "description": "Each part that is a picture counts, whatever its field is called.",
        "required": [FIELD],
        "properties": {FIELD: {"type": "array", "minItems": 1, "items": picture["schema"]}},
    }
    json_schema = DetectBody.model_json_schema()
    defs = json_schema.pop("$defs")
    json_schema["properties"]["images"]["items"] = defs["PictureBody"]
    example = {"images": [{"name": "dot.gif", "data": "R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="}]}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "image/jpeg": picture,
                "image/png": picture,
                "application/octet-stream": picture,
                "application/json": {"schema": json_schema, "example": example},
            },
        }
    }
