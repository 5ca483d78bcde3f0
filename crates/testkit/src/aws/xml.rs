//! As much of XML as answers of AWS need: elements and texts, no attributes.

/// The text of the first element of this name. For what is not nested in itself.
pub(crate) fn text<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    all(xml, tag).next()
}

/// The text of every element of this name. For what is not nested in itself.
pub(crate) fn all<'a>(xml: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(open.as_str())?;
        let (inside, after) = after.split_once(close.as_str())?;
        rest = after;
        Some(inside)
    })
}

/// Its characters again, where markup was escaped.
pub(crate) fn plain(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}

/// One element, for what is nested.
#[derive(Debug, Default)]
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    /// As it stands, markup escaped.
    pub(crate) text: &'a str,
    pub(crate) children: Vec<Node<'a>>,
}

impl<'a> Node<'a> {
    /// The root element of a document; one without a name when there is none.
    pub(crate) fn read(xml: &'a str) -> Self {
        let mut stack = vec![Node::default()];
        for piece in xml.split('<').skip(1) {
            let Some((tag, text)) = piece.split_once('>') else { break };
            let name = tag.split([' ', '/']).next().unwrap_or_default();
            if tag.starts_with(['?', '!']) {
                continue;
            }
            if tag.starts_with('/') {
                if stack.len() > 1 {
                    let node = stack.pop().expect("more than one");
                    stack.last_mut().expect("one is left").children.push(node);
                }
            } else if tag.ends_with('/') {
                stack.last_mut().expect("the document").children.push(Node { name, ..Node::default() });
            } else {
                stack.push(Node { name, text, children: Vec::new() });
            }
        }
        stack.swap_remove(0).children.into_iter().next().unwrap_or_default()
    }

    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of this name; empty when there is none.
    pub(crate) fn of(&self, name: &str) -> &'a str {
        self.child(name).map_or("", |child| child.text)
    }

    /// The children of the first child of this name.
    pub(crate) fn list(&self, name: &str) -> &[Self] {
        self.child(name).map_or(&[], |child| &child.children)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_name() {
        let xml = "<a><n>1</n><m/><n>2</n></a>";
        assert_eq!(text(xml, "n"), Some("1"));
        assert_eq!(all(xml, "n").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(text(xml, "x"), None);
        assert_eq!(plain("&quot;a &amp;lt; b&quot;"), "\"a &lt; b\"");
    }

    #[test]
    fn what_is_nested_in_its_like_is_told_apart() {
        let xml = "<?xml version=\"1.0\"?>\n<r xmlns=\"x\"><set><item><id>1</id><set><item><k>a</k></item></set></item>\
                   <item><set/><id>2</id></item></set></r>";
        let root = Node::read(xml);
        let items = root.list("set");
        assert_eq!((root.name, items.len()), ("r", 2));
        assert_eq!((items[0].of("id"), items[0].list("set")[0].of("k")), ("1", "a"));
        assert_eq!((items[1].of("id"), items[1].list("set").len()), ("2", 0));
        assert_eq!(Node::read("no markup").name, "");
    }
}
