"""A subnet that cannot be read is refused with the remedy."""

import pytest

from shared.host.subnet import range_of


@pytest.mark.parametrize("subnet", ["10.0.0.5/16", "10.0.0.0/33", "apps", ""])
def test_what_is_no_subnet_is_refused_with_the_remedy(subnet: str) -> None:
    with pytest.raises(ValueError, match=f"{subnet}.*; write a subnet like 172.30.0.0/16"):
        range_of(subnet)
