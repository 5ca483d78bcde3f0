//! How commands answer: tables where a person looks, JSON where a program does.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command's answer is what it prints.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use serde::Serialize;

use crate::app::{Fatal, Result};

pub(crate) fn line(text: &str) {
    println!("{text}");
}

pub(crate) fn error(text: &str) {
    eprintln!("stackpro: {text}");
}

pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Fatal::new("writing JSON", e))?;
    println!("{text}");
    Ok(())
}

/// A table with a head. Text from clients is shown without control characters.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<Cell>>) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    table.add_rows(rows);
    println!("{table}");
}

pub(crate) fn cell(text: &str) -> Cell {
    Cell::new(text.chars().filter(|c| !c.is_control()).collect::<String>())
}

/// A state, coloured by whether someone should look.
pub(crate) fn state(word: &str) -> Cell {
    let color = match word {
        "ready" | "active" | "done" | "running" => Color::Green,
        "failed" | "parked" => Color::Red,
        "grace" | "past_due" | "suspended" | "undone" | "undoing" => Color::Yellow,
        _ => Color::Reset,
    };
    Cell::new(word).fg(color)
}
