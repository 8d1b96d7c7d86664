"""States of stages in the broker, which other versions write and read too."""

from __future__ import annotations

import json

import pytest

from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.ledger.status import StageState, State


@pytest.mark.parametrize("state", State)
def test_a_state_is_written_as_the_word_that_other_versions_know(state: State) -> None:
    written = StageState(state=state, progress="epoch 2 of 5").model_dump_json(exclude_defaults=True)

    known = {} if state == State.WAITING else {"state": state.name.lower()}
    assert written == json.dumps(known | {"progress": "epoch 2 of 5"}, separators=(",", ":"))
    assert StageState.read(written, "its state").state is state
    assert f"{state} {json.dumps(state)}" == f'{state.name.lower()} "{state.name.lower()}"'


def test_a_state_that_only_another_version_knows_is_named_in_the_error() -> None:
    with pytest.raises(UnreadableRecord) as raised:
        StageState.read('{"state": "paused"}', "its state")

    assert str(raised.value) == (
        "its state was written by another version of distill-queue, or altered: state: Input should be 'waiting', "
        "'running', 'done', 'failed', 'blocked' or 'cancelled'"
    )
