"""The strategies of a rollout, a file each."""

from collections.abc import Mapping

from modelmill.core.strategies import blue_green, canary, rolling_update, shadow
from modelmill.core.strategies.strategy import Strategy

STRATEGIES: Mapping[str, Strategy] = {
    "RollingUpdate": rolling_update.STRATEGY,
    "Canary": canary.STRATEGY,
    "BlueGreen": blue_green.STRATEGY,
    "Shadow": shadow.STRATEGY,
}
