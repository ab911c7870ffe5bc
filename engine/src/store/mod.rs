//! Opening, recovery, allocation and commits.
