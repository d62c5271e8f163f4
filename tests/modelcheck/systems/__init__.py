"""What is there, what may happen and what must hold: a system for each kind."""

from modelcheck.cluster import System
from modelcheck.systems.admission import AdmissionSystem
from modelcheck.systems.approval import ApprovalSystem
from modelcheck.systems.autoscaled import ByCpuSystem, by_requests
from modelcheck.systems.canary import CanarySystem, ReplicasSystem, canary_and_loss
from modelcheck.systems.captured import CapturedSystem
from modelcheck.systems.collection import CollectionSystem
from modelcheck.systems.dataset import DatasetSystem, TwoReplicasSystem
from modelcheck.systems.derivation import DerivationSystem
from modelcheck.systems.drifting import DriftSystem
from modelcheck.systems.experiment import ExperimentSystem
from modelcheck.systems.labelled import QualitySystem
from modelcheck.systems.mirror import MirrorSystem
from modelcheck.systems.model import ModelSystem, SameRecipeSystem
from modelcheck.systems.modeldeployment import loss, rollout, withdrawal
from modelcheck.systems.modelversion import ModelVersionSystem
from modelcheck.systems.moved import MovedStoreSystem
from modelcheck.systems.pipeline import PipelineSystem
from modelcheck.systems.refresh import RefreshSystem
from modelcheck.systems.reproduction import ReproductionSystem
from modelcheck.systems.retirement import RetirementByTwoSystem, RetirementSystem
from modelcheck.systems.rollouts import rollouts
from modelcheck.systems.starvation import StarvationSystem
from modelcheck.systems.testing import TestingSystem
from modelcheck.systems.trainingjob import TrainingJobSystem
from modelcheck.systems.usecase import UseCaseSystem
from modelcheck.systems.workers import WorkersSystem
from modelcheck.systems.workspace import WorkspaceSystem


def systems() -> dict[str, System]:
    """All of them by name."""
    every = (
        rollout(), loss(), withdrawal(), CanarySystem(), canary_and_loss(), ReplicasSystem(),
        *rollouts(), DriftSystem(), QualitySystem(),
        TrainingJobSystem(), ModelSystem(), SameRecipeSystem(), DatasetSystem(), TwoReplicasSystem(), RefreshSystem(),
        DerivationSystem(), CapturedSystem(), ModelVersionSystem(), WorkspaceSystem(), CollectionSystem(),
        AdmissionSystem(),
        ApprovalSystem(), TestingSystem(), MovedStoreSystem(), ReproductionSystem(), RetirementSystem(),
        RetirementByTwoSystem(), WorkersSystem(), by_requests(), ByCpuSystem(), ExperimentSystem(),
        StarvationSystem(), UseCaseSystem(),
        MirrorSystem(),
        PipelineSystem("Forbid"), PipelineSystem("Replace"), PipelineSystem("Queue"),
    )  # fmt: skip
    return {system.name: system for system in every}
