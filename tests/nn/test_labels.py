"""What unknown labels do to losses: nothing."""

from __future__ import annotations

import torch

from weaktal.nn.clicks import frame_losses
from weaktal.nn.labels import among_known, known_mean


def test_probabilities_among_known_classes_are_those_of_a_softmax_over_them() -> None:
    torch.manual_seed(0)
    logits = (50 * torch.randn(4, 3 + 1)).requires_grad_()
    known = torch.tensor(
        [[True, False, True], [True, True, True], [False, False, False], [False, True, True]]
    )
    got = among_known(logits.log_softmax(1), known)
    for row, some, values in zip(logits, known, got, strict=True):
        kept = torch.cat([some, torch.tensor([True])])  # the background is always known
        torch.testing.assert_close(values[kept], row[kept].log_softmax(0), rtol=1e-5, atol=1e-5)
        assert float(values[~kept].exp().sum()) == 0
    (torch.where(torch.nn.functional.pad(known, (0, 1), value=True), got, 0)).sum().backward()
    assert logits.grad is not None
    assert float(logits.grad[:, :-1][~known].abs().max()) < 1e-6
    assert float(logits.grad[:, :-1][known].abs().max()) > 1e-3
    assert among_known(logits, None) is logits


def test_a_target_of_zeros_gives_no_loss() -> None:
    log_p = torch.randn(2, 3).log_softmax(1)
    known = torch.tensor([[False, False, False], [True, False, True]])
    loss = -(torch.zeros(2, 3) * among_known(log_p, known)).sum(1)
    assert loss.tolist() == [0, 0]


def test_the_mean_is_over_what_is_known() -> None:
    loss = torch.tensor([[1.0, 2.0, 6.0], [1.0, 2.0, 6.0], [1.0, 2.0, 6.0]])
    known = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    assert known_mean(loss, None).tolist() == [3, 3, 3]
    assert known_mean(loss, known).tolist() == [3, 3.5, 0]


def test_unknown_classes_take_no_part_in_the_losses_of_snippets() -> None:
    torch.manual_seed(1)
    fused, points = torch.rand(6, 3), torch.zeros(6, 2)
    points[1, 0] = 1
    background, video = torch.tensor([False, False, True, True, True, True]), torch.tensor([0, 0, 0, 1, 1, 1])
    known = torch.tensor([[True, False], [True, True]])
    some = frame_losses(fused, points, background, video, 2, known)
    other = fused.clone()
    other[:3, 1] = 0.5
    for a, b, c in zip(
        some,
        frame_losses(other, points, background, video, 2, known),
        frame_losses(fused, points, background, video, 2),
        strict=True,
    ):
        assert torch.equal(a, b)
        assert a[1] == c[1]  # of a video whose labels are all
    assert some[0][0] < frame_losses(fused, points, background, video, 2)[0][0]
