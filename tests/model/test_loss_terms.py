"""The loss as text, without TensorFlow."""

import pytest

from segbalance.errors import InputError
from segbalance.model.loss_terms import DEFAULT_LOSS, LOSSES, loss_terms


@pytest.mark.parametrize("name", LOSSES)
def test_a_name_alone(name):
    assert loss_terms(name) == [(1.0, name)]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        (DEFAULT_LOSS, [(1.0, "dice"), (1.0, "focal")]),
        ("0.5*dice+1*focal", [(0.5, "dice"), (1.0, "focal")]),
        (" 2 * bce + .25*tversky +jaccard ", [(2.0, "bce"), (0.25, "tversky"), (1.0, "jaccard")]),
        ("1e-2*dice", [(0.01, "dice")]),
    ],
)
def test_sums(text, terms):
    assert loss_terms(text) == terms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dise+focal", r"loss 'dise\+focal': 'dise' is unknown; expected one of dice, jaccard, focal, bce, "),
        ("", "loss '': '' is unknown; expected .* such as dice.focal or 0.5.dice.1.focal"),
        ("dice+", "'' is unknown"),
        ("dice-focal", "'dice-focal' is unknown"),
        ("dice*0.5", "'0.5' is unknown"),
        ("Dice", "'Dice' is unknown"),
        ("0*dice", "the factor of dice must be a number greater than 0, got '0'"),
        ("-1*dice", "the factor of dice must be a number greater than 0, got '-1'"),
        ("dice+nan*focal", "the factor of focal must be a number greater than 0, got 'nan'"),
        ("inf*dice", "got 'inf'"),
        ("half*dice", "got 'half'"),
        ("*dice", "the factor of dice must be a number greater than 0, got ''"),
        ("2*3*dice", r"got '2\*3'"),
        ("dice+2*dice", "names dice twice; give one factor for both"),
    ],
)
def test_what_is_no_sum(text, message):
    with pytest.raises(InputError, match=message):
        loss_terms(text)
