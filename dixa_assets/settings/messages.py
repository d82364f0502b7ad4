"""A mistake in the settings, told in one line of its own."""

import os
import re
from collections.abc import Collection

from dagster import DagsterError
from dagster.components.resolved.errors import ResolutionException
from pydantic import ValidationError
from yaml import MarkedYAMLError

from dixa_assets.errors import ConfigError, DixaAssetsError
from dixa_assets.settings.misspelt import hint, unknown_variables

# What was wanted, for each kind of error that pydantic tells of a value.
KINDS = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "string_type": "a text",
    "dict_type": "a mapping",
    "list_type": "a list",
    "sequence_str": "a list",
    "is_instance_of": "a list",
}
# What a `defs.yaml` may say.
FILE_KEYS = ("type", "attributes", "template_vars_module", "requirements", "post_processing")


def refuse_misspelt_variables(read: Collection[str]) -> None:
    """Raise for an environment variable that nothing reads, next to one that would be."""
    mistakes = [
        (name, f"nothing reads it; did you mean {meant}?")
        for name, meant in unknown_variables(os.environ, read)
        if meant
    ]
    if mistakes:
        raise ConfigError.of(mistakes)


def explained(error: BaseException, known: Collection[str]) -> BaseException:
    """The mistake behind an error of Dagster's about a `defs.yaml`, in one line of ours.

    Args:
        error: What loading raised; given back when nothing is known of it.
        known: The attributes that there are.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DixaAssetsError):
            return cause
        if isinstance(cause, ValidationError):
            return _of_validation(cause, known)
        if isinstance(cause, ResolutionException):
            place, _, attribute = str(cause).partition("\n")[0].partition(" - attributes.")
            return ConfigError(
                attribute, f"{str(cause.__cause__ or cause.__context__).rstrip('.')} ({place})."
            )
        if isinstance(cause, MarkedYAMLError) and (mark := cause.problem_mark):
            return ConfigError(f"{mark.name}:{mark.line + 1}", f"{cause.problem}.")
        inner = cause.__cause__ or cause.__context__
        if isinstance(cause, DagsterError) and inner is None:
            return ConfigError("defs.yaml", str(cause))
        cause = inner
    return error


def _of_validation(error: ValidationError, known: Collection[str]) -> ConfigError:
    # Of the forms that a value may have, the one it comes nearest to; types stand in brackets.
    problem = max(error.errors(), key=lambda each: len(".".join(map(str, each["loc"]))))
    path, _, place = ".".join(map(str, problem["loc"])).strip("`").partition(" at ")
    name = re.sub(r"\.[\w,-]+\[.*\]", "", path.removeprefix("attributes.")).removesuffix(".str")
    where = f" ({place})" if place else ""
    if problem["type"] == "extra_forbidden":
        there = known if "." in path or not place else FILE_KEYS
        return ConfigError(name, f"there is no such attribute{where}{hint(name, there)}")
    if problem["type"] == "missing":
        return ConfigError(name, f"is missing{where}.")
    wanted = KINDS.get(problem["type"], problem["msg"])
    return ConfigError(name, f"{problem['input']!r} is not {wanted}{where}.")
