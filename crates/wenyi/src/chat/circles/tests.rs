use super::*;
use crate::chat::ReplyBuilder;

/// What is left of `text` if it comes in pieces of `size` characters, and whether it was ended.
fn filtered(text: &str, size: usize) -> (String, bool) {
    let characters: Vec<char> = text.chars().collect();
    let pieces = characters.chunks(size).map(|piece| ChatDelta {
        content: piece.iter().collect(),
        ..ChatDelta::default()
    });
    let last = ChatDelta {
        finish_reason: Some(FinishReason::Length),
        ..ChatDelta::default()
    };
    let deltas: Vec<_> = pieces.chain([last]).map(Ok).collect();
    let mut reply = ReplyBuilder::default();
    for delta in without_circles(Box::new(deltas.into_iter())) {
        reply.push(&delta.unwrap());
    }
    let reply = reply.finish();
    let is_ended = reply.finish_reason == Some(FinishReason::Repetition);
    assert!(is_ended || reply.finish_reason == Some(FinishReason::Length));
    (reply.text(), is_ended)
}

#[test]
fn what_repeats_itself_is_ended_and_said_once() {
    let circles = [
        ("It is Paris.", " The city is large and old."),
        ("首都是巴黎。", "巴黎是一座古老的城市。"),
        (
            "Sure!",
            " First it opens the file. Then it reads every line.",
        ),
        (
            "They are:",
            "\n- the use of the engine\n- the use of the store",
        ),
        ("Thoughts", "\n\nI think that this is so."),
    ];
    for (beginning, circle) in circles {
        let text = format!("{beginning}{}", circle.repeat(30));
        for size in [1, 2, 5, 1000] {
            let expected = format!("{beginning}{circle}");
            assert_eq!(filtered(&text, size), (expected, true), "pieces of {size}");
        }
    }
    // The entries of a list have numbers of their own.
    let entries = (1..40).map(|number| format!("{number}. The use of the engine.\n"));
    let entries: String = entries.collect();
    for size in [1, 2, 4, 1000] {
        let (text, is_ended) = filtered(&entries, size);
        let text = text.trim_end();
        assert_eq!((text, is_ended), ("1. The use of the engine.", true));
    }
}

#[test]
fn what_has_no_sentences_is_ended_too() {
    for circle in ["ha ", "no, and ", "哈", "0, ", "| --- "] {
        let (text, is_ended) = filtered(&circle.repeat(400), 3);
        assert!(is_ended && text.len() < 900, "{circle}: {text}");
    }
}

#[test]
fn other_texts_come_through_as_they_are() {
    let refrain = "Row, row, row your boat\nGently down the stream\nMerrily, merrily, merrily\n\
                   Life is but a dream\n";
    let squares = (1..40).map(|n| format!("The square of {n} is {}.\n", n * n));
    let answers = (1..40).map(|n| format!("{n}. {}\n", if n % 3 == 0 { "True" } else { "False" }));
    let code = "```c\n".to_owned() + &"    buffer[next++] = 0;\n".repeat(6) + "```\n";
    let texts = [
        format!("{refrain}\nOnce more:\n\n{refrain}"),
        squares.collect(),
        answers.collect(),
        code,
        "他说：“好。”她也说：“好。”然后他们走了。然后他们走了。".into(),
        format!("{}\n{}\n", "=".repeat(80), "-".repeat(120)),
        "It is so. It is so. It is so. But why?\n\n  Nobody knows  ".into(),
        String::new(),
    ];
    for text in texts {
        for size in [1, 3, 7, 1000] {
            assert_eq!(filtered(&text, size), (text.clone(), false));
        }
    }
}

#[test]
fn thoughts_run_in_circles_as_well() {
    let thought = ChatDelta {
        reasoning_content: "But wait, is that really so? ".into(),
        ..ChatDelta::default()
    };
    let endless = std::iter::repeat_with(move || Ok(thought.clone()));
    let mut reply = ReplyBuilder::default();
    for delta in without_circles(Box::new(endless)) {
        reply.push(&delta.unwrap());
    }
    let reply = reply.finish();
    assert_eq!(reply.finish_reason, Some(FinishReason::Repetition));
    let thoughts = reply.message.reasoning_content.unwrap();
    assert_eq!(thoughts.trim_end(), "But wait, is that really so?");
}

#[test]
fn an_error_ends_the_stream_and_what_was_held_back_is_not_lost() {
    let piece = |text: &str| ChatDelta {
        content: text.into(),
        ..ChatDelta::default()
    };
    // The stream ends without a reason.
    let deltas = vec![Ok(piece("It is so. ")), Ok(piece("It is"))];
    let stream = without_circles(Box::new(deltas.into_iter()));
    let text: String = stream.map(|delta| delta.unwrap().content).collect();
    assert_eq!(text, "It is so. It is");
    let failed = crate::chat::tools::unsupported("m", "x", "y");
    let deltas = vec![Ok(piece("a")), Err(failed), Ok(piece("b"))];
    let mut stream = without_circles(Box::new(deltas.into_iter()));
    assert!(stream.next().unwrap().is_ok());
    assert!(stream.next().unwrap().is_err());
    assert!(stream.next().is_none());
}
