//! What a client used, month by month: small pictures, with their figures in a table.

use stackpro_domain::Time;

use super::show;

/// Months that are shown.
pub const MONTHS: u32 = 12;

/// What a client used in one month.
#[derive(Clone, Copy, Debug)]
pub struct UsedMonth {
    pub month: Time,
    /// The most at once, of both.
    pub storage_bytes: u64,
    pub members: u32,
    pub mails: u64,
    pub requests: u64,
    pub traffic_bytes: u64,
}

/// One measure over the months, the newest at the right; in a box of [`WIDTH`] by [`HEIGHT`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    pub name: &'static str,
    /// Of the newest month.
    pub now: String,
    pub bars: Vec<Bar>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub x: u32,
    pub y: f64,
    pub height: f64,
    /// `November 2026: 912 MB`.
    pub says: String,
}

impl Picture {
    /// All of it in words, for who cannot see it.
    pub(super) fn says(&self) -> String {
        let bars: Vec<&str> = self.bars.iter().map(|bar| bar.says.as_str()).collect();
        format!("{} by month. {}", self.name, bars.join(", "))
    }
}

const SLOT: u32 = 10;
pub(super) const WIDTH: u32 = SLOT * MONTHS;
pub(super) const HEIGHT: u32 = 48;
/// Of what is little, but not nothing.
const LEAST: f64 = 1.5;

/// `months`: the newest first. A month in which nothing was counted has no bar, and keeps its place.
pub(super) fn pictures(months: &[UsedMonth]) -> Vec<Picture> {
    if months.is_empty() {
        return Vec::new();
    }
    vec![
        picture("Storage, at most", months, |used| used.storage_bytes, show::bytes),
        picture("Members, at most", months, |used| u64::from(used.members), show::grouped),
        picture("Emails", months, |used| used.mails, show::grouped),
        picture("Traffic", months, |used| used.traffic_bytes, show::bytes),
    ]
}

fn picture(name: &'static str, months: &[UsedMonth], of: fn(&UsedMonth) -> u64, text: fn(u64) -> String) -> Picture {
    let newest = months.first();
    let before = |month: &Time| Some(month.plus(-1).month_start());
    let places: Vec<Time> =
        std::iter::successors(newest.map(|used| used.month.month_start()), before).take(MONTHS as usize).collect();
    let most = months.iter().map(of).max().unwrap_or_default().max(1);
    let bar = |used: &UsedMonth| {
        let place = places.iter().position(|place| *place == used.month.month_start())? as u32;
        let least = if of(used) == 0 { 0.0 } else { LEAST };
        let height = (of(used) as f64 / most as f64 * f64::from(HEIGHT)).max(least);
        let says = format!("{}: {}", used.month.month(), text(of(used)));
        Some(Bar { x: (MONTHS - 1 - place) * SLOT + 1, y: f64::from(HEIGHT) - height, height, says })
    };
    Picture {
        name,
        now: newest.map(of).map(text).unwrap_or_default(),
        bars: months.iter().rev().filter_map(bar).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(month: Time, mails: u64) -> UsedMonth {
        UsedMonth { month, storage_bytes: 1 << 30, members: 1, mails, requests: 0, traffic_bytes: 0 }
    }

    #[test]
    fn each_month_has_its_place_and_the_most_is_the_highest() {
        // 1 November, 1 September and 1 October a year before, 2026 and 2025.
        let [november, september, too_old] = [1_793_491_200_000, 1_788_220_800_000, 1_759_276_800_000].map(Time);
        let pictures = pictures(&[used(november, 1), used(september, 400), used(too_old, 9)]);
        let mails = &pictures[2];
        assert_eq!((mails.name, mails.now.as_str()), ("Emails", "1"));
        let bars: Vec<_> = mails.bars.iter().map(|bar| (bar.x, bar.y.to_string(), bar.height.to_string())).collect();
        let bar = |x, y: &str, height: &str| (x, y.to_owned(), height.to_owned());
        assert_eq!(
            bars,
            [bar(91, "0", "48"), bar(111, "46.5", "1.5")],
            "none in October, and what is older is not shown"
        );
        assert_eq!(mails.says(), "Emails by month. September 2026: 400, November 2026: 1");
        assert_eq!(pictures[0].bars[1].says, "November 2026: 1 GB");
        assert_eq!(pictures[3].bars[0].height.to_string(), "0", "nothing is nothing");
    }

    #[test]
    fn without_a_month_there_is_no_picture() {
        assert_eq!(pictures(&[]), []);
    }
}
