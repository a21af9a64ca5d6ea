"""What the OpenAPI document says of images: indexing, listing, changing and deleting them."""

from app.indexing.sources import LIST_MEDIA_TYPES
from app.web import schemas
from app.web.operations import IMAGE_ID, Form, Operation
from app.web.parameters import FILE
from app.web.search_operations import CAT, PHOTO

DOG = "https://example.com/dog.jpg"

IMAGE_OPERATIONS = [
    Operation(
        "post",
        "/api/upsert",
        "Index images by URL. Idempotent; a URL that fails does not affect the others. With "
        "`Prefer: respond-async`, or with a list as the body, return a job instead.",
        name="upsert",
        tag="Indexing",
        answer=schemas.UpsertResponse,
        body=schemas.UpsertRequest,
        lists=tuple(LIST_MEDIA_TYPES),
        prefer=True,
        failures=(409, 413, 422, 503),
        writes=True,
        example={"images": [CAT, {"url": DOG, "title": "Dog", "tags": ["pet"]}]},
        answers={
            "results": [
                {"url": CAT, "status": "indexed", "id": IMAGE_ID, "reason": None},
                {
                    "url": DOG,
                    "status": "failed",
                    "id": None,
                    "reason": "The URL's server answers 404.",
                },
            ]
        },
    ),
    Operation(
        "post",
        "/api/images",
        "Index uploaded images. The same bytes are the same image. With `Prefer: respond-async`, "
        "or with the id of a `job` to add them to, return a job instead; a cancelled one takes no "
        "more.",
        name="upload_images",
        tag="Indexing",
        answer=schemas.UpsertResponse,
        form=Form(
            "UploadForm",
            {"file": {"type": "array", "items": FILE, "description": "Image files."}},
            {"file": PHOTO},
        ),
        query=schemas.UploadRequest,
        prefer=True,
        failures=(404, 409, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/refresh",
        "Create a job that checks which images of a selection have changed or are gone.",
        name="refresh",
        tag="Indexing",
        answer=schemas.JobDocument,
        query=schemas.SelectionRequest,
        status=202,
        failures=(422, 503),
        writes=True,
        asks={"checked_before": "2026-01-01T00:00:00Z"},
    ),
    Operation(
        "post",
        "/api/captions",
        "Create a job that describes images. CAPTION_MODEL writes titles and descriptions for the "
        "images of a selection that have no description.",
        name="caption",
        tag="Indexing",
        answer=schemas.JobDocument,
        query=schemas.SelectionRequest,
        status=202,
        failures=(422, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/images",
        "List indexed images, all or a selection, newest first or in another order.",
        name="list_images",
        tag="Images",
        answer=schemas.ListResponse,
        query=schemas.ListRequest,
        failures=(422, 503),
        asks={"q": "boat", "limit": "10"},
    ),
    Operation(
        "delete",
        "/api/images",
        "Delete a selection of images. They are gone for good, unless `trash` is true.",
        name="delete_images",
        tag="Images",
        answer=schemas.DeleteResponse,
        query=schemas.DeleteRequest,
        failures=(422, 503),
        writes=True,
        asks={"q": "boat", "trash": "true"},
    ),
    Operation(
        "get",
        "/api/images/{id}",
        "Return all details of an image.",
        name="show_image",
        tag="Images",
        answer=schemas.ImageDetails,
        failures=(404, 503),
    ),
    Operation(
        "patch",
        "/api/images/{id}",
        "Update the title, description, tags or metadata of an image.",
        name="update_image",
        tag="Images",
        answer=schemas.ImageDetails,
        body=schemas.DescribeRequest,
        failures=(404, 413, 422, 503),
        writes=True,
        example={"title": "A boat", "tags": ["boat", "summer"], "metadata": {"price": 12.5}},
    ),
    Operation(
        "delete",
        "/api/images/{id}",
        "Delete an image. It is gone for good, unless `trash` is true.",
        name="delete_image",
        tag="Images",
        query=schemas.DeleteOneRequest,
        status=204,
        failures=(404, 422, 503),
        writes=True,
        asks={"trash": "true"},
    ),
    Operation(
        "get",
        "/images/{id}/thumbnail",
        "Return an image's thumbnail. It is a JPEG, 256 px on the short side.",
        name="show_thumbnail",
        tag="Images",
        answer=FILE,
        answer_type="image/jpeg",
        others={
            304: "The thumbnail with the ETag in `If-None-Match` is still the right one.",
            307: "The thumbnail is in a bucket, at the `Location` for an hour.",
        },
        failures=(404, 503),
    ),
    Operation(
        "get",
        "/images/{id}/original",
        "Return the original of an uploaded image, or redirect to the URL of any other.",
        name="show_original",
        tag="Images",
        answer=FILE,
        answer_type="image/*",
        others={307: "The original is at `Location`."},
        failures=(404, 503),
    ),
    Operation(
        "get",
        "/api/duplicates",
        "List groups of duplicates. These are identical files and altered copies. A response with "
        "a `next` may hold fewer groups than `limit`.",
        name="list_duplicates",
        tag="Duplicates",
        answer=schemas.DuplicatesResponse,
        query=schemas.DuplicatesRequest,
        failures=(422, 503),
        asks={"limit": "10"},
    ),
]
