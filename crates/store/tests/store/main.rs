//! The store's tests. Each runs on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used)]

/// Runs each of these tests on both databases.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::place::sqlite()).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::place::postgres().await).await;
            })+
        }
    };
}

mod costs;
mod flows;
mod kill;
mod limits;
mod mails;
mod opening;
mod place;
mod races;
mod samples;
mod sight;
mod torture;
mod toy;
mod trials;
mod walk;
