"""What is true of every error."""

import pytest

from tersenet.errors import ModelError, TersenetError, unknown


def test_a_message_is_one_line_whatever_a_name_in_a_file_holds() -> None:
    assert str(ModelError("the operator So\ntm\x00ax\u2028 cannot be read.")) == "the operator So tm ax  cannot be read."
    assert str(ModelError("模型无法读取")) == "模型无法读取"
    with pytest.raises(TersenetError, match="^$"):
        raise ModelError("")


def test_a_long_list_of_known_names_is_cut() -> None:
    assert unknown("layer", "x9", [f"name{number}" for number in range(50)]).endswith("and 20 more.")
