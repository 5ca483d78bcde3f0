//! How many statements something takes. Tests hold pages to a number, which must not grow with what they show.

use std::cell::Cell;

tokio::task_local! {
    static SENT: Cell<u64>;
}

/// Does `work`, and says how many statements it sent itself; those of tasks that it spawned are not among them.
pub async fn statements<F: Future>(work: F) -> (F::Output, u64) {
    let counted = async {
        let output = work.await;
        (output, SENT.with(Cell::get))
    };
    SENT.scope(Cell::new(0), counted).await
}

pub(crate) fn count() {
    // Nobody counts, mostly.
    let _ = SENT.try_with(|sent| sent.set(sent.get() + 1));
}
