"""The API's documentation and problems as pages."""

from starlette.responses import Response

from app.problems import Problem, StartProblem
from app.web.openapi import openapi_document
from app.web.requests import Request
from app.web.templating import page


async def docs_page(request: Request) -> Response:
    """Show the API's operations and problems for reading."""
    return page(request, "docs.html", document=openapi_document(), problems=_all_problems())


def problem_page(request: Request, problem: Problem) -> Response:
    """Show a problem to someone with a browser."""
    return page(request, "problem.html", status_code=problem.status, problem=problem)


def _all_problems() -> list[type[Problem]]:
    def below(problem: type[Problem]) -> list[type[Problem]]:
        return [problem, *(leaf for child in problem.__subclasses__() for leaf in below(child))]

    never_sent = {StartProblem, *StartProblem.__subclasses__()}
    return [problem for problem in below(Problem) if problem not in never_sent]
