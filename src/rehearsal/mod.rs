//! Rehearsals: kits of realistic shape, and sandboxes to release them to.
