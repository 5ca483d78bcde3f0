//! The cloud on AWS against an emulator. What the emulator gets wrong is written in `docs/aws.md`, and is checked
//! by other means there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod between;
mod doctor;
mod ec2;
mod iam;
mod moto;
mod route53;
mod s3;
mod ses;
mod setup;
mod sns;
