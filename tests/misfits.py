"""Models, scorers, cleaners and thresholders that each break one promise, for the tests of the contract kit.

``MISFITS`` maps kind and class to the checks that must fail; ``GOOD`` are the ones they are made from.
"""

import random
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from uadtk.plugin import Choice, NoOptions, Scored, Turn, UsageError, option

MISFITS: dict = {"models": {}, "scorers": {}, "cleaners": {}, "thresholders": {}}


def breaks(kind, *checks):
    def note(cls):
        MISFITS[kind][cls] = set(checks)
        return cls

    return note


@dataclass(frozen=True)
class Options:
    level: float = option(0.5, "Where to start.", ge=0, le=1)


class GoodModel(nn.Module):
    """Learns how bright normal tissue may be."""

    Options = Options

    def __init__(self, options, side):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(options.level) + 0.01 * torch.rand(()))

    def reconstruct(self, x):
        return torch.minimum(x, self.level)

    def sample(self, x, n):
        return self.reconstruct(x) + 0.01 * torch.randn(n, *x.shape)

    def objective(self, x):
        return (x - self.reconstruct(x)).square().flatten(1).sum(1)

    def training_loss(self, batch):
        seen = batch.image + 0.01 * torch.randn_like(batch.image)
        return {"loss": ((self.reconstruct(seen) - batch.image).square() * batch.normal).mean()}


class GoodRanker(nn.Module):
    Options = NoOptions

    def __init__(self, options, side):
        super().__init__()

    def score(self, x, brain):
        return x.clamp(min=0) * brain


class GoodPupil(nn.Module):
    """Learns from labels how bright a lesion is."""

    Options = Options
    supervised = True

    def __init__(self, options, side):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5 + options.level) + 0.01 * torch.rand(()))

    def score(self, x, brain):
        return (20 * (x - self.level)).sigmoid() * brain

    def training_loss(self, batch):
        error = (self.score(batch.image, batch.brain) - batch.lesion.float()).square()
        return {"loss": (error * batch.known).mean()}


class GoodDuel(GoodModel):
    """Has an adversary, of which little is left when judging begins."""

    judged_from = 3

    def __init__(self, options, side):
        super().__init__(options, side)
        self.doubt = nn.Parameter(torch.tensor(1.0))

    def players(self):
        return {"level": [self.level], "doubt": [self.doubt]}

    def turns(self, epoch):
        doubting = [Turn("doubt", lambda _: {"loss": self.doubt.square()}, times=2)]
        return [Turn("level", self.training_loss)] if epoch >= self.judged_from else doubting


@breaks("models", "loss_is_finite_with_a_gradient")
class NobodysParameter(GoodDuel):
    def players(self):
        return {"level": [self.level]}

    def turns(self, epoch):
        return [Turn("level", self.training_loss)]


@breaks("models", "loss_is_finite_with_a_gradient")
class NobodysTurn(GoodDuel):
    def turns(self, epoch):
        return [Turn("level", self.training_loss)]


@breaks("models", "planted_lesion_outscores_the_brain")
class ConcludesBadly(GoodModel):
    def conclude(self, batches):
        self.level.fill_(2 + sum(float(batch.image.mean()) for batch in batches))


@breaks("models", "options_have_help_and_valid_defaults")
class NoHelp(GoodModel):
    @dataclass(frozen=True)
    class Options:
        level: float = 0.2


@breaks("models", "options_have_help_and_valid_defaults")
class DefaultOutOfRange(GoodModel):
    @dataclass(frozen=True)
    class Options:
        level: float = option(0.2, "Where to start.", ge=0.5)


@breaks("models", "options_have_help_and_valid_defaults")
class NotFrozen(GoodModel):
    @dataclass
    class Options:
        level: float = field(default=0.2, metadata={"help": "Where to start."})


@breaks("models", "options_do_not_clash_with_training")
class Clash(GoodModel):
    @dataclass(frozen=True)
    class Options:
        level: float = option(0.2, "Where to start.")
        epochs: int = option(3, "Not these.")


@breaks("models", "options_do_not_clash_with_training")
class ClashWithTheCommand(GoodModel):
    @dataclass(frozen=True)
    class Options:
        level: float = option(0.2, "Where to start.")
        output: int = option(3, "Not this.")


@breaks("models", "can_be_scored")
class NoReconstruction(GoodModel):
    reconstruct = None


@breaks("models", "learns_if_it_says_so")
class NothingToLearn(GoodModel):
    def __init__(self, options, side):
        super().__init__(options, side)
        self.level.requires_grad_(False)


@breaks("models", "seed_decides_the_weights")
class NumPyWeights(GoodModel):
    def __init__(self, options, side):
        super().__init__(options, side)
        self.level.data += 0.01 * float(np.random.rand())


@breaks("models", "keeps_shape_and_is_finite")
class Crops(GoodModel):
    def reconstruct(self, x):
        return super().reconstruct(x)[..., 1:]


@breaks("models", "keeps_shape_and_is_finite")
class Doubles(GoodModel):
    def reconstruct(self, x):
        return super().reconstruct(x).double()


@breaks("models", "keeps_shape_and_is_finite")
class DividesByTheHighest(GoodModel):
    def reconstruct(self, x):
        top = x.amax(dim=(1, 2, 3), keepdim=True)
        return super().reconstruct(x) / top * top


@breaks("models", "deterministic_in_eval")
class DrawsInEval(GoodModel):
    def reconstruct(self, x):
        return super().reconstruct(x) + 1e-4 * torch.rand_like(x)


@breaks("models", "deterministic_in_eval")
class DrawsForNothing(GoodModel):
    def reconstruct(self, x):
        random.random()
        return super().reconstruct(x)


@breaks("models", "input_is_not_modified")
class InPlace(GoodModel):
    def training_loss(self, batch):
        batch.image.mul_(1.5)
        return super().training_loss(batch)


@breaks("models", "batch_equals_one_by_one")
class LooksAround(GoodModel):
    def reconstruct(self, x):
        return super().reconstruct(x) + 0.01 * x.mean()


@breaks("models", "own_score_is_a_score")
class Negative(GoodRanker):
    def score(self, x, brain):
        return (x - 0.3) * brain


@breaks("models", "own_score_is_a_score")
class Outside(GoodRanker):
    def score(self, x, brain):
        return x + 0.1


@breaks("models", "samples_are_reconstructions")
class OneSample(GoodModel):
    def sample(self, x, n):
        return self.reconstruct(x)


@breaks("models", "samples_are_reconstructions")
class SameSamples(GoodModel):
    def sample(self, x, n):
        return self.reconstruct(x).expand(n, *x.shape)


@breaks("models", "objective_has_a_gradient")
class Detached(GoodModel):
    def objective(self, x):
        return super().objective(x.detach())


@breaks("models", "objective_has_a_gradient")
class OneNumber(GoodModel):
    def objective(self, x):
        return super().objective(x).sum()


@breaks("models", "loss_is_finite_with_a_gradient")
class UnusedParameter(GoodModel):
    def __init__(self, options, side):
        super().__init__(options, side)
        self.unused = nn.Parameter(torch.zeros(3))


@breaks("models", "loss_is_finite_with_a_gradient")
class LogsVectors(GoodModel):
    def training_loss(self, batch):
        return {**super().training_loss(batch), "slices": batch.image.mean(dim=(1, 2, 3))}


@breaks("models", "loss_is_decided_by_the_seed")
class NumPyNoise(GoodModel):
    def training_loss(self, batch):
        noise = torch.from_numpy(np.random.rand(len(batch.image), 1, 1, 1).astype(np.float32))
        return super().training_loss(replace(batch, image=batch.image * (0.95 + 0.1 * noise)))


@breaks("models", "known_lesions_are_not_learned")
class LearnsLesions(GoodModel):
    def training_loss(self, batch):
        return super().training_loss(replace(batch, normal=batch.normal | True))


@breaks("models", "unknown_labels_are_not_learned")
class TrustsEveryMark(GoodPupil):
    def training_loss(self, batch):
        return super().training_loss(replace(batch, known=batch.known | True))


@breaks("models", "loss_falls")
class WrongSign(GoodModel):
    def training_loss(self, batch):
        return {"loss": 1 + self.level - self.level.detach() * 0}


@breaks("models", "planted_lesion_outscores_the_brain")
class Identity(GoodModel):
    def reconstruct(self, x):
        return x + 0 * self.level


@breaks("models", "checkpoint_keeps_every_bit")
class Forgets(GoodModel):
    def __init__(self, options, side):
        super().__init__(options, side)
        self.offset = 0.1 * torch.rand(())

    def reconstruct(self, x):
        return super().reconstruct(x) + self.offset


class GoodScorer:
    Options = NoOptions
    needs: tuple[str, ...] = ("reconstruct",)

    def __init__(self, options):
        pass

    def score(self, model, x, brain):
        reconstruction = model.reconstruct(x)
        return Scored((x - reconstruction).clamp(min=0) * brain, {"reconstruction": reconstruction})


@breaks("scorers", "names_what_it_needs")
class NeedsMore(GoodScorer):
    needs = ()


@breaks("scorers", "names_what_it_needs")
class NeedsLess(GoodScorer):
    needs = ("reconstruct", "sample")


@breaks("scorers", "score_is_a_score")
class Signed(GoodScorer):
    def score(self, model, x, brain):
        return Scored((x - model.reconstruct(x) - 0.1) * brain)


@breaks("scorers", "score_is_a_score")
class PerSlice(GoodScorer):
    def score(self, model, x, brain):
        return Scored(super().score(model, x, brain).score.amax(dim=(2, 3)))


@breaks("scorers", "score_is_zero_outside_the_brain")
class Everywhere(GoodScorer):
    def score(self, model, x, brain):
        return super().score(model, x, brain | True)


@breaks("scorers", "maps_fit_the_slices")
class SmallMaps(GoodScorer):
    def score(self, model, x, brain):
        scored = super().score(model, x, brain)
        return Scored(scored.score, {"small": x[..., ::2]})


@breaks("scorers", "input_is_not_modified")
class ScorerInPlace(GoodScorer):
    def score(self, model, x, brain):
        return super().score(model, x.add_(0.01), brain)


@breaks("scorers", "deterministic")
class Noisy(GoodScorer):
    def score(self, model, x, brain):
        return Scored(super().score(model, x, brain).score + 1e-7 * torch.rand_like(x) * brain)


@breaks("scorers", "batch_equals_one_by_one")
class Rescales(GoodScorer):
    def score(self, model, x, brain):
        score = super().score(model, x, brain).score
        return Scored(score / (score.sum() + 1))


@breaks("scorers", "planted_lesion_outscores_the_brain")
class Flat(GoodScorer):
    def score(self, model, x, brain):
        return Scored(brain * (0 * model.reconstruct(x) + 1))


class GoodCleaner:
    Options = NoOptions

    def __init__(self, options):
        pass

    def clean(self, score, image, brain, spacing_mm):
        return score * brain


@breaks("cleaners", "score_stays_a_score")
class CleanerDoubles(GoodCleaner):
    def clean(self, score, image, brain, spacing_mm):
        return score.astype(np.float64)


@breaks("cleaners", "input_is_not_modified")
class CleanerInPlace(GoodCleaner):
    def clean(self, score, image, brain, spacing_mm):
        if score.flags.writeable:
            score[score < 0.5] = 0
        return score


@breaks("cleaners", "input_is_not_modified")
class CleanerNeedsToWrite(GoodCleaner):
    def clean(self, score, image, brain, spacing_mm):
        score *= 1
        return score


@breaks("cleaners", "nothing_comes_from_nothing")
class FromNothing(GoodCleaner):
    def clean(self, score, image, brain, spacing_mm):
        return np.maximum(score, np.float32(0.01) * brain)


@breaks("cleaners", "an_empty_brain_is_no_error")
class NeedsABrain(GoodCleaner):
    def clean(self, score, image, brain, spacing_mm):
        return np.minimum(score, image[brain].max())


@breaks("cleaners", "nothing_rises_above_the_highest")
class Louder(GoodCleaner):
    def clean(self, score, image, brain, spacing_mm):
        return score * np.float32(2)


@breaks("cleaners", "something_remains")
class Nothing(GoodCleaner):
    def clean(self, score, image, brain, spacing_mm):
        return score * np.float32(0)


@breaks("cleaners", "deterministic")
class CleanerDraws(GoodCleaner):
    def clean(self, score, image, brain, spacing_mm):
        return score * (np.random.rand(*score.shape) < 0.9).astype(np.float32)


class GoodThresholder:
    Options = NoOptions
    needs_lesions = False

    def __init__(self, options):
        pass

    def choose(self, scans):
        threshold = float(np.mean([scan.score.max() for scan in scans]))
        return Choice(threshold, "mean of the highest", {"scans": len(scans)}, (0.0, 2 * threshold))


class GoodSupervised(GoodThresholder):
    needs_lesions = True

    def choose(self, scans):
        return Choice(float(np.mean([scan.score[scan.lesion].mean() for scan in scans])), "mean in lesions")


class GoodRefuser(GoodThresholder):
    """Says so where one scan is too little."""

    def choose(self, scans):
        if len(scans) < 2:
            raise UsageError("one scan is too little", fix="Calibrate on two.")
        choice = super().choose(scans)
        above = np.concatenate([scan.score[scan.brain] > choice.threshold for scan in scans])
        return replace(choice, measured={"voxel_fpr": float(above.mean()), "voxel_fpr_limit": 0.01})


@breaks("thresholders", "threshold_is_a_score")
class NeedsTwo(GoodThresholder):
    def choose(self, scans):
        return super().choose([scans[1], *scans])


@breaks("thresholders", "threshold_is_a_score")
class AboveAll(GoodThresholder):
    def choose(self, scans):
        return Choice(2 * super().choose(scans).threshold, "twice the highest")


@breaks("thresholders", "says_what_it_aimed_at")
class NoJson(GoodThresholder):
    def choose(self, scans):
        return Choice(super().choose(scans).threshold, "x", {"rate": np.float32(0.1)})


@breaks("thresholders", "says_what_it_aimed_at")
class BesideItsInterval(GoodThresholder):
    def choose(self, scans):
        return Choice(super().choose(scans).threshold, "x", {}, (0.0, 0.01))


@breaks("thresholders", "within_target")
class BeyondItsLimit(GoodThresholder):
    def choose(self, scans):
        return replace(super().choose(scans), measured={"rate": 0.03, "rate_limit": 0.02})


@breaks("thresholders", "within_target")
class CountsOtherwise(GoodThresholder):
    def choose(self, scans):
        choice = super().choose(scans)
        above = [(scan.score >= choice.threshold / 2).mean() for scan in scans]
        return replace(choice, measured={"voxel_fpr": float(np.mean(above))})


@breaks("thresholders", "monotone")
class LowerForTheLouder(GoodThresholder):
    def choose(self, scans):
        highest = [float(scan.score.max()) for scan in scans]
        return Choice(min(highest) ** 2 / max(highest), "lower the more they differ")


@breaks("thresholders", "order_does_not_matter")
class First(GoodThresholder):
    def choose(self, scans):
        return Choice(float(next(iter(scans)).score.max()), "the first scan's highest")


@breaks("thresholders", "grows_with_the_scores")
class Fixed(GoodThresholder):
    def choose(self, scans):
        return Choice(0.1, "0.1")


@breaks("thresholders", "deterministic")
class ThresholderDraws(GoodThresholder):
    def choose(self, scans):
        return Choice(super().choose(scans).threshold * random.random(), "a share")


@breaks("thresholders", "input_is_not_modified")
class ThresholderInPlace(GoodThresholder):
    def choose(self, scans):
        choice = super().choose(scans)
        for scan in scans:
            scan.score[~scan.brain] = np.inf
        return choice


@breaks("models", "declares_known_names")
class Neighbors(GoodModel):
    neighbors = 1


@breaks("models", "declares_known_names")
class Neighbour(GoodModel):
    def __init__(self, options, side):
        super().__init__(options, side)
        self.neighbour = 1


@breaks("models", "declares_known_names")
class Reconstuct(GoodRanker):
    def reconstuct(self, x):
        return x


@breaks("models", "declares_known_names")
class JudgeFrom(GoodModel):
    judge_from = 3


@breaks("models", "declares_known_names")
class Supervized(GoodModel):
    supervized = True


@breaks("models", "declares_known_names")
class Sampel(GoodRanker):
    @staticmethod
    def sampel(x, n):
        return x.expand(n, *x.shape)


@breaks("models", "declares_known_names")
class CleanErs(GoodModel):
    clean_ers = ()


@breaks("models", "declares_known_names")
class Beta(GoodModel):
    beta = (0.9, 0.999)


@breaks("models", "declares_known_names")
class OneCleaner(GoodModel):
    cleaners = "erode"


@breaks("models", "declares_known_names")
class ScorerInside(GoodRanker):
    def __init__(self, options, side):
        super().__init__(options, side)
        self.scorer = nn.Identity()


@breaks("models", "learns_if_it_says_so")
class LacksWhatNoModelHas(GoodModel):
    lacks = ("samples",)


@breaks("models", "can_be_scored")
class AsksForSamples(GoodModel):
    scorer = "montecarlo:samples=2"
    lacks = ("sample",)


@breaks("models", "loss_falls", "loss_is_finite_with_a_gradient")
class NoLossKey(GoodModel):
    def training_loss(self, batch):
        return {"l1": super().training_loss(batch)["loss"]}


@breaks("models", "loss_falls", "loss_is_finite_with_a_gradient")
class UnknownPlayer(GoodDuel):
    def turns(self, epoch):
        return [Turn("levle", self.training_loss)]


@breaks("models", "keeps_shape_and_is_finite")
class ReturnsArrays(GoodModel):
    def reconstruct(self, x):
        return x.numpy()


@breaks("models", "keeps_shape_and_is_finite")
class Crashes(GoodModel):
    def reconstruct(self, x):
        raise ValueError("no weights")


@breaks("scorers", "declares_known_names")
class WholeScans(GoodScorer):
    whole_scans = True


@breaks("scorers", "names_what_it_needs", "declares_known_names")
class Need(GoodScorer):
    needs = None
    need = ("reconstruct",)


@breaks("scorers", "score_is_a_score")
class ReturnsTensor(GoodScorer):
    def score(self, model, x, brain):
        return super().score(model, x, brain).score


@breaks("cleaners", "declares_known_names")
class Cleaned(GoodCleaner):
    def cleaned(self, score, image, brain, spacing_mm):
        return score

    clean = None


@breaks("thresholders", "declares_known_names")
class NeedLesions(GoodThresholder):
    need_lesions = True


@breaks("thresholders", "declares_known_names")
class CheckSubject(GoodThresholder):
    def check_subject(self, n):
        pass


@breaks("thresholders", "threshold_is_a_score")
class ReturnsFloat(GoodThresholder):
    def choose(self, scans):
        return 0.1


class Excused(LearnsLesions):
    exempt = {"known_lesions_are_not_learned": "It has no way to leave them out."}  # noqa: RUF012


@breaks("models", "loss_falls")
class NeedlesslyExcused(GoodModel):
    exempt = {"loss_falls": "It does, though."}  # noqa: RUF012


@breaks("models", "entry_can_be_shown")
class ExcusedFromNothing(GoodModel):
    exempt = {"loss_fals": "A slip."}  # noqa: RUF012


GOOD: dict = {
    "models": [GoodModel, GoodDuel, GoodRanker, GoodPupil, Excused],
    "scorers": [GoodScorer],
    "cleaners": [GoodCleaner],
    "thresholders": [GoodThresholder, GoodSupervised, GoodRefuser],
}
