//! Runs stacks on an instance: front door, recipes, usage, copies between instances.
