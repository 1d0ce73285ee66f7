use super::*;

fn is_answered(question: &str, text: &str) -> bool {
    Wanted::of(question).is_none_or(|wanted| wanted.is_in(text))
}

#[test]
fn what_is_counted_must_be_counted() {
    for (question, with, without) in [
        (
            "How many floors does the house have?",
            "The house has eleven floors.",
            "Each floor has one warden.",
        ),
        (
            "How many parking places are there?",
            "There are 11 covered places in the yard.",
            "The 11 visitors use the parking places.",
        ),
        (
            "How long are copies kept?",
            "Copies are kept for 35 days.",
            "Copies are kept in the second building.",
        ),
        (
            "How often is it rehearsed?",
            "Restores are rehearsed every quarter.",
            "Restores are rehearsed by the team.",
        ),
        (
            "How much is a meal?",
            "Meals are free.",
            "Cash is not taken.",
        ),
        (
            "How large is a backup?",
            "A backup is about 40 GB.",
            "Backups are kept for 35 days.",
        ),
        (
            "In which year was it built?",
            "It was built in 1987.",
            "It was built by 12 people.",
        ),
        (
            "What is the phone number of the desk?",
            "Call +49 30 123-456.",
            "The desk is in room 2.14.",
        ),
        (
            "What is the e-mail address of the desk?",
            "Write to desk@example.org.",
            "Write to the desk.",
        ),
        ("年假有几天？", "有七天年假。", "年假要提前三次申请。"),
        ("退款几天到账？", "三个工作日内退回。", "三个主管审批。"),
        (
            "东京的餐补多少钱？",
            "| 城市 | 元 |\n|---|---|\n| 东京 | 300 |",
            "餐补每月结算。",
        ),
        ("午饭多少钱？", "午餐十八元。", "食堂可以坐八十人。"),
        ("试用期是几个月？", "试用期三个月。", "试用期有三个人负责。"),
        (
            "每台机器有多少内存？",
            "每台机器 64 GB 内存。",
            "每台机器三十天重启一次。",
        ),
        ("备份文件有多大？", "备份大约 40 GB。", "备份保留三十天。"),
        (
            "公司在哪一年成立？",
            "公司 2013 年成立。",
            "公司有九个车位。",
        ),
        ("备份保留多久？", "保留 30 天。", "备份由运维组操作。"),
    ] {
        assert!(is_answered(question, with), "{question} {with}");
        assert!(!is_answered(question, without), "{question} {without}");
    }
}

#[test]
fn the_numbers_of_the_question_do_not_answer_it() {
    let text = "Version 2 tries again when a call fails.";
    assert!(!is_answered("How often does version 2 try?", text));
    let text = "Version 2 tries 5 times.";
    assert!(is_answered("How many times does version 2 try?", text));
}

#[test]
fn an_extent_need_not_be_a_number() {
    let text = "A reference is valid as long as what it points to.";
    assert!(is_answered("How long is a reference valid?", text));
    assert!(is_answered("备份保留多久？", "备份永久保留。"));
}

#[test]
fn other_questions_ask_for_anything() {
    for question in [
        "How do I rotate the keys?",
        "When is the office closed?",
        "怎样更换密钥？",
        "这个函数几乎不用吗？",
        "什么是平面几何？",
    ] {
        assert_eq!(Wanted::of(question), None, "{question}");
    }
}
