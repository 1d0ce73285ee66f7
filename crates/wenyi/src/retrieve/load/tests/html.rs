//! Pages of HTML: columns of tables, lists, what is hidden, what a page is called.

use super::formats::blocks;
use super::*;

fn page(source: &str) -> Document {
    Document::from_text("a.html", Kind::Html, source.to_owned())
}

#[test]
fn values_of_a_table_stay_in_their_columns() {
    let years = page(
        "<table><tr><th></th><th>2023</th><th>2024</th><th>2025</th></tr>\
         <tr><td>North</td><td>1</td><td></td><td>3</td></tr>\
         <tr><td>South</td><td> </td><td></td><td>9</td><td></td></tr></table>",
    );
    assert_eq!(
        blocks(&years),
        ["table  | 2023 | 2024 | 2025\nNorth | 1 |  | 3\nSouth |  |  | 9"]
    );
    let spans = page(
        "<table><tr><th rowspan=2>Plan</th><th colspan='2'>Price</th><th>Users</th></tr>\
         <tr><td>month</td><td>year</td><td>most</td></tr>\
         <tr><td><p>Basic</p><p>new</p></td><td>1<br>2</td><td>3</td><td><ul><li>4</ul></td></tr></table>",
    );
    assert_eq!(
        blocks(&spans),
        ["table Plan | Price |  | Users\n | month | year | most\nBasic new | 1 2 | 3 | - 4"]
    );
    // A table within a table is one of its own, and cells behind it do not stand in its columns.
    let nested = page("<table><tr><td>a<td><table><tr><td>b<td>c</table><td>d<td>e</table>");
    assert_eq!(blocks(&nested), ["table a", "table b | c", "table d | e"]);
}

#[test]
fn cells_that_span_without_end_take_little() {
    let wide = format!(
        "<table>{}</table>",
        "<tr><td colspan=99999999 rowspan=99999999>a<td>b".repeat(20_000)
    );
    let text = page(&wide).text;
    assert!(text.len() < 16 << 20, "{}", text.len());
    assert_eq!(text.matches('b').count(), 20_000);
}

#[test]
fn items_have_their_depth_and_their_numbers() {
    let lists = page(
        "<ul><li><p>loose</p><p>more</p></li><li><div>boxed</div></li><li>outer<ul><li>inner</ul></ul>\
         <ol start=3><li>three<li>four<li value=9>nine</ol>",
    );
    assert_eq!(
        blocks(&lists),
        [
            "list - loose\nmore\n- boxed\n- outer\n  - inner",
            "list 3. three\n4. four\n9. nine"
        ]
    );
}

#[test]
fn a_page_is_called_by_its_title() {
    let without_heading = page(
        "<head><title>Duck &amp; goose\n - Wiki</title></head><h2>Contents</h2><p>Ducks swim.</p>",
    );
    assert_eq!(without_heading.title(), Some("Duck & goose - Wiki"));
    assert_eq!(
        blocks(&without_heading),
        ["h1 Duck & goose - Wiki", "h2 Contents", "p Ducks swim."]
    );
    let with_heading = page("<title>Ducks | Site</title><H1>Ducks</H1><svg><title>x</title></svg>");
    assert_eq!(with_heading.title(), Some("Ducks | Site"));
    assert_eq!(blocks(&with_heading), ["h1 Ducks"]);
    assert_eq!(page("<title/><p>a</p>").title(), None);
}

#[test]
fn a_picture_is_markup_to_markdown() {
    assert!(!shows_text("<img alt='a duck' src='a.png'>"));
    assert!(shows_text("<p>a <img alt='duck'></p>"));
}

#[test]
fn what_is_hidden_is_left_out_and_formulas_and_pictures_are_words() {
    let document = page(
        "<p>a<p hidden>H1<p>b <div style='Display: none'><div>H2</div>H3<script>'</div>'</script></div>\
         <span hidden>H4</span>c<ul><li hidden>H5<li>d</ul>\
         <p>Energy is <math><mi>E</mi><mo>=</mo><mi>m</mi><annotation>TEX</annotation></math>.\
         <p>See<img src=a.png alt='a duck&#39;s bill'><img alt='logo.png'><img alt=''>here.",
    );
    assert_eq!(
        blocks(&document),
        [
            "p a",
            "p b c",
            "list - d",
            "p Energy is E=m.",
            "p See a duck's bill here."
        ]
    );
}
