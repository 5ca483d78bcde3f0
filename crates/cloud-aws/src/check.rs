//! What `doctor` asks of AWS. Each service's module looks at its own; [`Aws`](crate::Aws) puts them together.

pub use stackpro_cloud::Check;
