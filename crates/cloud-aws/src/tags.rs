//! What everything of ours is marked with, so that it can be listed, and told from another installation's.

use stackpro_cloud::Tags;

pub(crate) const INSTALLATION: &str = "stackpro:installation";
pub(crate) const RESOURCE: &str = "stackpro:resource";
pub(crate) const CLIENT: &str = "stackpro:client";

/// Keys and values, in AWS's form.
pub(crate) fn pairs(installation: &str, tags: &Tags) -> Vec<(&'static str, String)> {
    let mut pairs = vec![(INSTALLATION, installation.to_owned()), (RESOURCE, tags.resource_id.clone())];
    pairs.extend(tags.client_id.clone().map(|client| (CLIENT, client)));
    pairs
}

/// Ours again, from what AWS lists; none when it is not this installation's.
pub(crate) fn read<'a>(installation: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Tags> {
    let (mut ours, mut tags) = (false, Tags::default());
    for (key, value) in pairs {
        match key {
            INSTALLATION => ours = value == installation,
            RESOURCE => value.clone_into(&mut tags.resource_id),
            CLIENT => tags.client_id = Some(value.to_owned()),
            _ => {}
        }
    }
    ours.then_some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_installations_tags_are_read() {
        let tags = Tags { resource_id: "r1".into(), client_id: Some("acme".into()) };
        let written = pairs("live", &tags);
        let as_text = || written.iter().map(|(key, value)| (*key, value.as_str()));
        assert_eq!(read("live", as_text()), Some(tags));
        assert_eq!(read("test", as_text()), None);
        assert_eq!(read("live", [("Name", "x")]), None);
    }
}
