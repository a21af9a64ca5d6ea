"""What the OpenAPI document says of searching and comparing."""

from app.search.compare_documents import VerdictDocument
from app.search.requests import FilterRequest, SearchRequest
from app.web import schemas
from app.web.operations import IMAGE_ID, Form, Operation
from app.web.parameters import FILE, FILE_URL_OR_ID, form_fields

PHOTO = "@photo.jpg"
CAT = "https://example.com/cat.jpg"
_URLS = {"type": "array", "items": {"type": "string", "format": "uri"}}

SEARCH_OPERATIONS = [
    Operation(
        "post",
        "/api/query",
        "Return the URLs of the copies of an image, best match first. At most 100, and only those "
        "whose similarity to `file` is above 0.90 (strictly). With `verified`, those of the same "
        "files and of verified copies, whatever their similarity.",
        name="query",
        tag="Search",
        answer=_URLS,
        form=Form(
            "QueryForm", {"file": FILE, **form_fields(schemas.QueryRequest)}, {"file": PHOTO}
        ),
        failures=(413, 415, 422, 503),
        answers=[CAT],
    ),
    Operation(
        "post",
        "/api/search",
        "Search by images, by text, or by any weighted sum of these, within filters. Images are a "
        "file, a URL, or indexed images by id. With filters only, list the images that pass. In a "
        "form, lists are repeated fields.",
        name="search",
        tag="Search",
        answer=schemas.SearchResponse,
        body=SearchRequest,
        form=Form("SearchForm", {"file": FILE}, {"file": PHOTO, "limit": "10"}),
        failures=(404, 413, 415, 422, 503),
        example={
            "query": [{"text": "golden retriever", "weight": 2}, {"text": "fruit", "weight": -1}],
            "tags": ["boat"],
            "limit": 10,
        },
    ),
    Operation(
        "post",
        "/api/compare",
        "Compare two images. The answer has their similarity, their match, and how one lies on the "
        "other.",
        name="compare",
        tag="Search",
        answer=VerdictDocument,
        body=schemas.CompareRequest,
        form=Form(
            "CompareForm",
            {"a": FILE_URL_OR_ID, "b": FILE_URL_OR_ID},
            {"a": PHOTO, "b": IMAGE_ID},
        ),
        failures=(404, 413, 415, 422, 503),
        example={"a": {"id": IMAGE_ID}, "b": {"url": CAT}},
    ),
    Operation(
        "get",
        "/api/facets",
        "Return the values to filter by. Each comes with a count among the images that match the "
        "filters.",
        name="list_facets",
        tag="Search",
        answer=schemas.FacetsResponse,
        query=FilterRequest,
        failures=(422, 503),
        asks={"formats": "JPEG", "min_width": "640"},
    ),
    Operation(
        "get",
        "/api/facets/values",
        "Return values of one facet that contain a text, rare ones too. Those that begin with it "
        "come first, and then the more frequent ones, each with its count among the images that "
        "match the filters.",
        name="list_facet_values",
        tag="Search",
        answer=schemas.FacetValuesResponse,
        query=schemas.FacetValuesRequest,
        failures=(422, 503),
        asks={"facet": "tags", "q": "bo"},
    ),
]
