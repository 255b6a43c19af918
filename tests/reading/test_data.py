"""Files of questions in every form, scores equal to the official ones, decoding and voting."""

import gzip
import json
import lzma

import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit import reading
from jaxkit.reading import decode, metrics


def squad(answers, context="Ada wrote it. Ada knew.", **more):
    qa = {"question": "who?", "id": "7", "answers": answers} | more
    return {"version": "1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": [qa]}]}]}


def written(folder, content, name="a.json"):
    text = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    path = folder / name
    opener = {"gz": gzip.open, "xz": lzma.open}.get(name.rsplit(".", 1)[-1], open)
    with opener(path, "wb") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.json.xz"])
def test_squad_in_any_wrapping(tmp_path, name):
    data = reading.read(written(tmp_path, squad([{"text": "Ada", "answer_start": 14}]), name))
    assert data.examples[0].passages[0].spans == ((14, 17),)
    assert data.examples[0].answers == ("Ada",)
    assert (data.realigned, data.dropped) == (0, 0)


def test_misplaced_answers_are_found_nearby_and_counted(tmp_path):
    data = reading.read(written(tmp_path, squad([{"text": "Ada", "answer_start": 12}])))
    assert data.examples[0].passages[0].spans == ((14, 17),)  # the nearest, not the first
    assert str(data) == "1 questions; 1 answers realigned, 0 found nowhere"
    spaced = reading.read(written(tmp_path, squad([{"text": "wroteit", "answer_start": 0}])))
    assert spaced.examples[0].passages[0].spans == ((4, 12),)
    lost = reading.read(written(tmp_path, squad([{"text": "Bob", "answer_start": 0}])))
    assert (lost.dropped, lost.examples[0].passages[0].spans, lost.examples[0].answers) == (1, (), ("Bob",))


def test_squad_2_without_an_answer(tmp_path):
    data = reading.read(written(tmp_path, squad([{"text": "Ada", "answer_start": 0}], is_impossible=True)))
    assert data.examples[0].answers == ()
    assert data.examples[0].passages[0].spans == ()


def test_webqa_in_both_forms(tmp_path):
    evidences = {
        "e0": {"answer": ["北京"], "evidence": "中国的首都是北京"},
        "e1": {"answer": ["no_answer"], "evidence": "天气好"},
    }
    nested = reading.read(written(tmp_path, {"Q1": {"question": "首都？", "evidences": evidences}}))
    line = {"q_key": "Q1", "question_tokens": ["首都", "？"], "evidences": [
        {"evidence_tokens": ["首都", "是", "北京"], "golden_answers": [["北京"]], "type": "positive"},
        {"evidence_tokens": ["北京", "很", "大"], "golden_answers": [["北京"]], "type": "hit_answer_negative"},
        {"evidence_tokens": ["天气"], "golden_answers": [["no_answer"]], "type": "other_negative"},
    ]}  # fmt: skip
    lines = reading.read(written(tmp_path, json.dumps(line).encode() + b"\n" + json.dumps(line).encode()))
    assert [p.spans for p in nested.examples[0].passages] == [((6, 8),), ()]
    assert nested.examples[0].answers == ("北京",)
    assert len(lines) == 2
    assert [p.spans for p in lines.examples[0].passages] == [((3, 5),), (), ()]


def test_sogou_and_cmrc_trial(tmp_path):
    sogou = [{"id": 1, "question": "谁？", "answer": "李白", "passages": [
        {"passage": "李白写的，李白", "answer": "李白"}, {"passage": "不知道", "answer": ""}]}]  # fmt: skip
    data = reading.read(written(tmp_path, sogou))
    assert [p.spans for p in data.examples[0].passages] == [((0, 2), (5, 7)), ()]  # every occurrence
    trial = [
        {
            "context_id": "1",
            "context_text": "李白写的",
            "title": "t",
            "qas": [{"query_text": "谁？", "query_id": "q", "answers": ["李白", "李白"]}],
        }
    ]
    assert reading.read(written(tmp_path, trial)).examples[0].passages[0].spans == ((0, 2),)


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"\xff\xfe\x00a", "a.json", "must be UTF-8 text, but a.json is not: byte 0"),
        (b"not json", "a.json", "must be JSON or JSON lines, but a.json is not"),
        (b"\xfd7zXZ\x00nonsense", "b.xz.raw", "must be UTF-8 text"),
        ({"other": 1}, "a.json", "must be SQuAD, CMRC, DRCD, WebQA or SogouQA data, but a.json is none"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "a.json", "must follow its form, but a.json breaks it: KeyError"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, content, name, says):
    with pytest.raises(ValueError, match=r"Argument `path`") as error:
        reading.read(written(tmp_path, content, name))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


LINES = {
    "tokens": {"q_key": "Q1", "question_tokens": ["谁", "？"], "evidences": [
        {"evidence_tokens": ["李白\u2028写", "\u0085的"], "golden_answers": [["李白"], None, ["no_answer"]]}]},
    "sogou": {"id": 1, "question": "谁？", "answer": None, "expand": None, "passages": [
        {"passage": "李白\u2029写的", "answer": "李白"}, {"passage": "\u2028", "answer": None}]},
    "trial": {"context_text": "李白\u2028写的", "qas": [
        {"query_text": "谁？", "query_id": "q", "answers": [None, "李白"]}]},
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("count", [1, 2])
def test_json_lines_of_any_number_and_of_any_character(tmp_path, name, count):
    line = json.dumps(LINES[name], ensure_ascii=False).encode()
    data = reading.read(written(tmp_path, b"\r\n".join([line] * count)))
    assert len(data) == count
    assert data.examples[0].passages[0].spans == ((0, 2),)
    assert None not in data.examples[0].answers


def test_null_is_no_answer_and_no_text(tmp_path):
    data = reading.read(
        written(tmp_path, squad([{"text": None, "answer_start": 0}, {"text": "Ada", "answer_start": 0}]))
    )
    assert data.examples[0].answers == ("Ada",)
    assert reading.read(written(tmp_path, squad(None))).examples[0].answers == ()
    assert reading.read(written(tmp_path, squad([{"text": "", "answer_start": -1}]))).examples[0].answers == ()
    for content in (squad([], context=None), squad([], question=None), squad([{"text": 3, "answer_start": 0}])):
        with pytest.raises(ValueError, match=r"a\.json breaks it: TypeError .* where a text should be"):
            reading.read(written(tmp_path, content))


def test_truncated_archives_and_missing_files(tmp_path):
    good = written(tmp_path, squad([]), "a.json.xz").read_bytes()
    cut = tmp_path / "cut.json.xz"
    cut.write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match="must be an undamaged file"):
        reading.read(cut)
    with pytest.raises(FileNotFoundError):
        reading.read(tmp_path / "none.json")


def test_split_keeps_groups_together():
    data = reading.synthetic(40, seed=1)
    one, two = data.split(0.75)
    assert (len(one), len(two)) == (30, 10)
    assert not {e.group for e in one} & {e.group for e in two}


def test_squad_scores():
    assert metrics.squad("The Cat.", ["a cat"]) == (1, 1)
    assert metrics.squad("black cat", ["cat", "black dog sat"]) == (0, pytest.approx(2 / 3))
    assert metrics.squad("", []) == (1, 1)
    assert metrics.squad("", ["x"]) == (0, 0)
    assert metrics.squad("U.S.", ["us"]) == (1, 1)


def test_cmrc_scores_by_the_longest_common_run():
    assert metrics.cmrc("《战史》", ["战史"]) == (1, 1)
    # Segments 光 荣 和 ω force (the hyphen goes first and does not part: "ωforce") against 光 荣: run 2.
    assert metrics.cmrc("光荣", ["光荣和ω-force"]) == (0, pytest.approx(2 * 2 / (2 + 4)))
    # A bag of characters would give 1; the run 甲 乙 is two of four.
    assert metrics.cmrc("丙丁甲乙", ["甲乙丙丁"]) == (0, pytest.approx(0.5))
    # A run, not a sequence with gaps.
    assert metrics.cmrc("甲天乙", ["甲地乙"]) == (0, pytest.approx(1 / 3))
    assert metrics.cmrc("a(b)", ["A(B)"]) == (1, 1)
    assert metrics.cmrc("", ["x"]) == (0, 0)


def test_sogou_scores():
    assert metrics.sogou("ＡＢ-c", ["abc"]) == (1, 1)
    assert metrics.sogou("巴西、印度", ["印度 巴西"]) == (1, 1)
    assert metrics.sogou("巴西", ["印度 巴西"]) == (0, pytest.approx(2 * 2 / 6))
    assert metrics.sogou("", ["x"]) == (0, 0)
    assert metrics.sogou("甲", ["乙", "甲"]) == (1, 1)
    found = reading.score_answers(["甲", ""], [("甲",), ("乙",)], "sogou")
    assert (found.exact, found.f1, found.mean) == (50, 50, 0.5)


def test_spans_equal_all_pairs():
    rng = np.random.default_rng(1)
    start, end = rng.random((2, 3, 20))
    score, first, last = decode.spans(jnp.asarray(start), jnp.asarray(end), max_answer_tokens=5, count=4)
    for b in range(3):
        pairs = sorted(
            ((start[b, i] * end[b, j], i, j) for i in range(20) for j in range(i, min(i + 5, 20))), reverse=True
        )[:4]
        np.testing.assert_allclose(score[b], [p[0] for p in pairs])
        assert list(zip(first[b].tolist(), last[b].tolist(), strict=True)) == [p[1:] for p in pairs]


def test_vote_of_the_article():
    passages = [{"A": 0.7}] + [{"B": 0.2}] * 4
    ranking = reading.vote(passages)
    assert [(t, round(s, 4), m) for t, s, m in ranking] == [("A", 0.2882, [0]), ("B", 0.0889, [1, 2, 3, 4])]
    assert reading.vote(passages, rule="sum")[0][0] == "B"
    # Within a passage the same text keeps its maximum; forms that differ by punctuation are one answer.
    assert reading.vote([{"李白": 0.5, "李白。": 0.4}]) == [("李白", pytest.approx(0.25 / 1.5), [0])]
    assert reading.vote([]) == []
    said = [{"李白": 0.5, "杜甫": 0.1}, {"杜甫。": 0.2}, {}]
    texts = ["李白，字太白", "诗人杜甫", "李白 与 杜甫"]
    assert decode.supported(texts, said) == [pytest.approx(v) for v in (0.625, 0.375, 1.0)]
    assert decode.supported(texts, [{}, {}, {}]) == [0.0] * 3
    with pytest.raises(ValueError, match="Argument `rule` must be one of"):
        reading.vote([], rule="most")


def test_synthetic_is_deterministic_and_aligned():
    one, two = reading.synthetic(200, seed=3), reading.synthetic(200, seed=3)
    assert one == two
    assert reading.synthetic(200, seed=4) != one
    for e in one:
        ((a, b),) = e.passages[0].spans
        assert e.passages[0].text[a:b] == e.answers[0]
        assert e.passages[0].text.count(e.answers[0]) == 1
    empty = reading.synthetic(50, seed=3, unanswerable=1.0)
    assert not any(e.answers or e.passages[0].spans for e in empty)
