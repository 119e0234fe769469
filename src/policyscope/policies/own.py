"""A policy class of the user's, by the name that was typed.

This imports code, so the name comes from the command line's own words, or from Python; never from
a file.
"""

from __future__ import annotations

import importlib
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from policyscope.actions.robots import Robot
from policyscope.errors import PolicyscopeError, UsageError, first_line
from policyscope.policies.base import Policy

_FIX = "a class derived from policyscope.testing.Policy, as in docs/policies.md"


def open_own(name: str, robot: Robot) -> Policy:
    """Import a class, and make a policy of it for a robot.

    Args:
        name: ``my_module:MyPolicy``. The working directory is looked in last.
        robot: that the policy is to control; the class is called with it.

    Raises:
        UsageError: it can't be imported or made, or is no policy.
    """
    flag = f"--policy.type {name}"
    made = _import(flag, name)
    try:
        policy = made(robot)
    except PolicyscopeError:
        raise
    except Exception as error:  # whatever code of the user's raises
        raise UsageError(
            flag,
            expected="a class that is called with the robot: MyPolicy(robot)",
            found=f"{type(error).__name__}: {first_line(error)}",
            fix=f"{_FIX}; --debug shows where",
        ) from error
    if not isinstance(policy, Policy):
        raise UsageError(flag, expected="a policy", found=f"a {type(policy).__name__}", fix=_FIX)
    return policy


def _import(flag: str, name: str) -> Any:
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.append(here)  # last: nothing that lies there hides an installed module
    try:
        return reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:  # whatever code of the user's raises
        raise UsageError(
            flag,
            expected="a module that can be imported, and a class in it",
            found=f"{type(error).__name__}: {first_line(error)}",
            fix="name it as Python imports it, from this directory or installed; --debug shows "
            "where it failed",
        ) from error
    finally:
        sys.path.remove(here)
