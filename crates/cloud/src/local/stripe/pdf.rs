//! An invoice as a PDF file of one page: lines of text in Helvetica, which every reader has
//! (PDF 1.4, ISO 32000-1 9.6.2.2).

use std::fmt::Write;

/// An A4 page in points, and where the text begins.
const PAGE: (u32, u32) = (595, 842);
const TOP: u32 = 780;
const STEP: u32 = 18;
/// More lines than fit are said to be so.
const MOST: usize = 38;

/// A line: what stands left, and what stands in the column of amounts.
pub(super) type Row = (String, String);

pub(super) fn document(title: &str, rows: &[Row]) -> Vec<u8> {
    let mut drawn = format!("BT /F1 18 Tf 56 {TOP} Td ({}) Tj ET\n", literal(title));
    let cut = ("More is on the invoice's page.".to_owned(), String::new());
    let shown = rows.iter().take(MOST).chain((rows.len() > MOST).then_some(&cut));
    for (index, (left, right)) in shown.enumerate() {
        let y = TOP - STEP * (index as u32 + 2);
        for (x, text) in [(56, left), (440, right)] {
            let _ = writeln!(drawn, "BT /F1 10 Tf {x} {y} Td ({}) Tj ET", literal(text));
        }
    }
    let (width, height) = PAGE;
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents 4 0 R \
             /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        format!("<< /Length {} >>\nstream\n{drawn}endstream", drawn.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut offsets = String::new();
    for (index, object) in objects.iter().enumerate() {
        let _ = writeln!(offsets, "{:010} 00000 n ", file.len());
        let _ = write!(file, "{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let (start, size) = (file.len(), objects.len() + 1);
    let _ = write!(
        file,
        "xref\n0 {size}\n0000000000 65535 f \n{offsets}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    );
    file.into_bytes()
}

/// Text within parentheses. What WinAnsi shares with Latin-1 is written by its number; the rest is a question mark.
fn literal(text: &str) -> String {
    let mut written = String::new();
    for letter in text.chars() {
        match letter {
            '(' | ')' | '\\' => written.extend(['\\', letter]),
            ' '..='~' => written.push(letter),
            '\u{a0}'..='\u{ff}' => drop(write!(written, "\\{:03o}", letter as u32)),
            _ => written.push('?'),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_finds_each_object_where_the_table_says() {
        let rows = vec![("2 × Plan (a \\ b) 株".to_owned(), "$5.00".to_owned()); 60];
        let file = String::from_utf8(document("Invoice", &rows)).unwrap();
        assert!(file.is_ascii() && file.starts_with("%PDF-1.4\n") && file.ends_with("%%EOF\n"));
        assert!(file.contains("(2 \\327 Plan \\(a \\\\ b\\) ?)") && file.contains("More is on"));
        let (_, table) = file.split_once("xref\n0 6\n").unwrap();
        for (number, entry) in table.lines().skip(1).take(5).enumerate() {
            let at: usize = entry[..10].parse().unwrap();
            assert!(file[at..].starts_with(&format!("{} 0 obj\n", number + 1)), "{entry}");
            assert_eq!(entry.len(), 19, "with its end of line 20 bytes");
        }
        let start: usize = file.lines().rev().nth(1).unwrap().parse().unwrap();
        assert!(file[start..].starts_with("xref\n"));
        let (_, stream) = file.split_once("/Length ").unwrap();
        let (length, rest) = stream.split_once(" >>\nstream\n").unwrap();
        assert!(rest[length.parse().unwrap()..].starts_with("endstream"));
    }
}
