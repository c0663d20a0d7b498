"""Every operator that the table claims passes ONNX's own node tests, read from a file and traced; the table has every operator that ONNX has."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import defs

import tersenet
from onnx_cases import Case, cases, check, types, with_constants
from tersenet.errors import TersenetError
from tersenet.frontends.onnx.table import OPERATORS, REFUSED
