// Fixtures, seeded generators and comparisons for the tests.
