//! How a stack goes from one instance to another while it serves, from agent to agent.
//!
//! The destination does the work ([`destination`]): it copies everything, then in rounds what changed
//! meanwhile, and checks what it wrote by reading it again. When it is told to cut over it asks the source to
//! hold writes, copies and checks the little rest, and asks for the commit. The source ([`source`]) is the
//! judge: it writes the commit down before it says so, and from then on forwards. Whatever dies, and
//! whenever: before that write the source serves, after it the destination does, and both find out by asking
//! the source. [`transfer`] is what they say to each other.
//!
//! A stack in containers goes the same way with another copy ([`volumes`], [`blocks`]): its data is found
//! changed by looking. In the hold its programs come to rest at the source, reads wait too, and they are
//! started at the destination before the commit, since that they answer there is what the commit rests on.

mod blocks;
mod copy;
pub(crate) mod destination;
pub(crate) mod source;
pub(crate) mod transfer;
mod volumes;
