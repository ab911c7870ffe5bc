//! Generators and oracles for fuzzing.
