"""In CI, each test of the sender runs over both ways of an association: the straight path and the general one."""

from tests.scu.both_ways import general
from tests.ways import over_both_ways, way_without

pytest_generate_tests = over_both_ways
way = way_without(general)
