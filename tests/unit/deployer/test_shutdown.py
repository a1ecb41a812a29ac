"""Every driver has a construction and an end: a driver without an end would leave its instances running."""

from typing import get_args

from services.deployer.config import Settings
from services.deployer.main import DRIVERS
from services.deployer.shutdown import ENDS


def test_every_driver_of_the_setting_can_be_made_and_ended() -> None:
    names = set(get_args(Settings.model_fields["driver"].annotation))

    assert set(DRIVERS) == names
    assert set(ENDS) == names
