"""What is wrong with a value that does not have its form, in a few words."""

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """The first fault that was found, as «place: what is wrong»."""
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
