//! The promises of [`Table`], each as a function that panics when an implementation breaks it.
