//! Placement: on which shared instance a trial runs. Pure: from what is, to what to do.

use crate::ids::InstanceId;

/// A shared instance as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub instance: InstanceId,
    pub clients: u32,
    pub capacity: u32,
    /// Healthy and not draining: may take one more.
    pub open: bool,
}

/// What to do for one more trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    On(InstanceId),
    /// No shared instance has room: launch one.
    Launch,
}

/// Fills the fullest instance that has room, so that the emptiest ones can be drained and released;
/// among equals the first by id, so that the answer is always the same.
pub fn place(rooms: &[Room]) -> Placement {
    rooms
        .iter()
        .filter(|room| room.open && room.clients < room.capacity)
        .min_by(|a, b| b.clients.cmp(&a.clients).then_with(|| a.instance.cmp(&b.instance)))
        .map_or(Placement::Launch, |room| Placement::On(room.instance.clone()))
}

/// How many more shared instances to launch so that `spare` trials always find a place at once.
pub fn headroom(rooms: &[Room], spare: u32, capacity: u32) -> u32 {
    let free: u32 = rooms.iter().filter(|r| r.open).map(|r| r.capacity.saturating_sub(r.clients)).sum();
    spare.saturating_sub(free).div_ceil(capacity.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(id: &str, clients: u32, open: bool) -> Room {
        Room { instance: id.parse().unwrap(), clients, capacity: 10, open }
    }

    #[test]
    fn the_fullest_with_room_is_taken() {
        let rooms = [room("i-a", 3, true), room("i-b", 9, true), room("i-c", 10, true), room("i-d", 9, false)];
        assert_eq!(place(&rooms), Placement::On("i-b".parse().unwrap()));
        assert_eq!(place(&rooms[2..]), Placement::Launch);
        assert_eq!(place(&[]), Placement::Launch);
    }

    #[test]
    fn headroom_counts_only_open_room() {
        assert_eq!(headroom(&[], 1, 10), 1);
        assert_eq!(headroom(&[room("i-a", 9, true)], 1, 10), 0);
        assert_eq!(headroom(&[room("i-a", 10, true), room("i-b", 0, false)], 11, 10), 2);
    }
}
