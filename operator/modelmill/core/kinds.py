"""All controllers, by kind."""

from collections.abc import Mapping
from typing import Any

from modelmill.core import dataset, model, modelapproval, modeldeployment, modelversion, trainingjob, workspace
from modelmill.core.controller import Controller

CONTROLLERS: Mapping[str, Controller[Any, Any]] = {
    controller.kind: controller
    for controller in (
        workspace.CONTROLLER,
        dataset.CONTROLLER,
        trainingjob.CONTROLLER,
        model.CONTROLLER,
        modelversion.CONTROLLER,
        modelapproval.CONTROLLER,
        modeldeployment.CONTROLLER,
    )
}
