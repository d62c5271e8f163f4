"""All controllers, by kind."""

from collections.abc import Mapping
from typing import Any

from modelmill.core import (
    dataset,
    experiment,
    model,
    modelapproval,
    modeldeployment,
    modelversion,
    pipeline,
    pipelinerun,
    trainingjob,
    usecase,
    workspace,
)
from modelmill.core.controller import Controller

CONTROLLERS: Mapping[str, Controller[Any, Any]] = {
    controller.kind: controller
    for controller in (
        workspace.CONTROLLER,
        usecase.CONTROLLER,
        dataset.CONTROLLER,
        trainingjob.CONTROLLER,
        experiment.CONTROLLER,
        model.CONTROLLER,
        modelversion.CONTROLLER,
        modelapproval.CONTROLLER,
        modeldeployment.CONTROLLER,
        pipeline.CONTROLLER,
        pipelinerun.CONTROLLER,
    )
}
