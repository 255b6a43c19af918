"""Tokens with exact offsets, vocabulary, and the article's eight features."""

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from jaxkit import reading
from jaxkit.reading import encode, features, tokens

QUESTION = "白云山 的 海拔 是 多少 ？".split()
PASSAGE = "白云山 坐落 在 广州 ， 主峰 海拔 3 8 2 米".split()
jieba = pytest.mark.skipif(tokens.jieba_tokenizer() is None, reason="needs jieba (extra zh)")


@hypothesis.given(st.text(max_size=60))
def test_tokens_are_slices_and_lose_nothing_but_space(text):
    cut = reading.tokenize(text)
    assert cut.words() == [text[a:b] for a, b in zip(cut.start, cut.end, strict=True)]
    assert "".join("".join(cut.words()).split()) == "".join(text.split())
    assert all(a < b for a, b in zip(cut.start, cut.end, strict=True))
    assert all(x <= y for x, y in zip(cut.end[:-1], cut.start[1:], strict=True))
    coded, _ = reading.Vocabulary(("a",), words=False).encode(text)
    assert np.all(coded.match > 0)  # 0 is padding
    assert np.all((0 < coded.kind) & (coded.kind < tokens.KINDS))


def test_both_scripts_in_one_text():
    words = reading.tokenize("《战国无双3》 costs $12.50，Ünï 第１２").words()
    assert words == ["《", "战", "国", "无", "双", "3", "》", "costs", "$", "12", ".", "50", "，", "Ünï", "第", "１２"]
    assert reading.tokenize("米3 8", units="character").words() == ["米", "3", "8"]
    with pytest.raises(ValueError, match=r"Argument `units` must be one of .*, but is 'bytes'"):
        reading.tokenize("x", units="bytes")


@jieba
def test_word_units_split_digits_as_the_article_does():
    assert reading.tokenize("主峰海拔382米", units="word").words() == ["主峰", "海拔", "3", "8", "2", "米"]


def test_width_and_case_do_not_matter_for_matching():
    vocabulary = reading.Vocabulary(("abc",), words=False)
    (a, _), (b, _) = vocabulary.encode("ABC１"), vocabulary.encode("ａｂｃ1")
    assert a.match.tolist() == b.match.tolist()
    assert a.ids.tolist() == b.ids.tolist() == [2, 1]
    assert tokens.fingerprint("白") == 1186980181  # the same in every process


@jieba
def test_words_cover_their_characters():
    vocabulary = reading.Vocabulary.of(["白云山坐落在广州"], min_count=1)
    coded, cut = vocabulary.encode("在广州 x")
    assert cut.words() == ["在", "广", "州", "x"]
    assert coded.word[1] == coded.word[2] != coded.word[0]
    place, begin, end = tokens.TAGS.index("ns"), 1, 2
    assert coded.tag[1:3].tolist() == [1 + 4 * place + begin, 1 + 4 * place + end]


def test_a_stem_joins_the_forms_of_a_word():
    stems = [tokens.stem(w) for w in ("founded", "founding", "founders", "found", "was", "是", "白云山公园")]
    assert stems == ["found"] * 4 + ["was", "是", "白云山公园"]
    coded, _ = reading.Vocabulary((), words=False).encode("founded founding")
    assert coded.word[0] == coded.word[1]
    assert coded.match[0] != coded.match[1]


def test_word_vectors_are_read_and_meet_their_words(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("3 2\nthe 1 0\n1984 0 2\n1985 0 4\nunread 9 9\n", encoding="utf-8")
    vectors = reading.read_vectors(path, most=4)
    assert vectors.keys == ("the", "#4")
    np.testing.assert_allclose(vectors.table * np.sqrt(np.mean([1, 0, 0, 9]) * 10), [[1, 0], [0, 3]], rtol=1e-6)
    rows = vectors.rows(reading.Vocabulary(("cat", "#4")))
    np.testing.assert_array_equal(rows, [[0, 0], [0, 0], [0, 0], vectors.table[1]])
    for bad in ("the 1 0\na 1\n", "the 1 0\na 1 x\n", "the 1 nan\n", ""):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(ValueError, match="Argument `path` must hold"):
            reading.read_vectors(path)


def test_an_odd_line_of_word_vectors_is_left_out_and_counted(tmp_path):
    path = tmp_path / "v.txt"
    good = "the 1 0\n. . . 0 2\nat\u2028home 3 3\n"  # GloVe has words with spaces
    path.write_bytes(b"\xff\xfe 1 2\n" + good.encode() + b"torn 1\n\nhot nan 2\n" + good.encode())
    vectors = reading.read_vectors(path)
    assert vectors.skipped == 4
    assert vectors.table.shape == (3, 2)


@jieba
def test_the_characters_of_lac_start_the_embedding():
    keys, table = encode.lac_table()
    assert table.shape == (len(keys), 128)
    vocabulary = reading.Vocabulary(("的", "#4", "zzzz"))
    first = encode.initial_embedding(vocabulary, 128, 0)
    row = table[keys.index("的")]
    assert np.corrcoef(first[2], row)[0, 1] == pytest.approx(1)
    assert not np.any(first[encode.PAD])
    assert np.all(np.isfinite(first))


def test_golden_vectors_of_the_article():
    table = features.article_features(QUESTION, [PASSAGE])[0]
    jaccard = [1 / 8, 1 / 9, 1 / 10, *[1 / 11] * 6, 1 / 10, 0]
    edits = [5, 5, 5, 5, 6, 6, 6, 5, 6, 6, 6]
    np.testing.assert_allclose(table[:, 0], [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(table[:, 2], jaccard, atol=1e-6)
    np.testing.assert_allclose(table[:, 3], np.array(edits) / 6, atol=1e-6)
    printed = [0.13, 0.11, 0.1, 0.09, 0.09, 0.09, 0.09, 0.09, 0.09, 0.1, 0]
    np.testing.assert_allclose(table[:, 2], printed, atol=0.0051)


def test_match_of_characters_is_averaged_over_the_word():
    # The article's example: the question has the word 演, the passage the word 合演: (0 + 1) / 2.
    table = features.article_features(["演", "谁"], [["合演", "了"]])[0]
    np.testing.assert_allclose(table[:, [0, 4]], [[0, 0.5], [0, 0]])
    # "AB" and "AC" share one of three characters; the window of A, cut at the passage's start, is A alone: 1 of 2.
    assert features.article_features(["AB"], [["AC"]])[0, 0, 6] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_cooccurrence_counts_the_other_passages():
    passages = [["x", "y"]] + [["x"]] * 4 + [["z"]] * 5
    together = features.article_features(["q"], passages)[:, 0, 1]
    assert together[0] == pytest.approx(4 / 10)  # in 4 of the other 9 of 10 passages
    assert together[9] == pytest.approx(4 / 10)
    assert features.article_features(["q"], passages)[0, 1, 1] == 0
    assert features.article_features(["q"], []).shape == (0, 0, 8)


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def test_edit_distance_and_jaccard_equal_their_definitions():
    rng = np.random.default_rng(0)
    edit, jac = jax.jit(features.edit_distance), jax.jit(features.jaccard)
    for n in (1, 5, 31, 32, 33, 64, 65, 70):  # across the words of the bit-parallel table
        size = int(rng.integers(1, 100))
        q, p = (rng.integers(1, 6, k).astype(np.int32) for k in (n, size))
        distance = edit(np.pad(q, (0, 70 - n)), np.pad(p, (0, 100 - size)))
        similar = jac(np.pad(q, (0, 70 - n)), np.pad(p, (0, 100 - size)))
        for i in range(size):
            first = i - n // 2
            window = p[max(first, 0) : max(first + n, 0)]
            assert int(distance[i]) == levenshtein(window, q), (n, size, i)
            both, either = set(window) & set(q), set(window) | set(q)
            assert float(similar[i]) == pytest.approx(len(both) / len(either), abs=1e-6)


def test_runs_mark_all_their_tokens():
    q, p = np.array([1, 2, 3, 9], np.int32), np.array([7, 1, 2, 3, 7, 2, 0, 0], np.int32)
    table = np.asarray(features.dense(q, p, 0 * q, 0 * p))
    np.testing.assert_allclose(table[:, 0], [0, 1, 1, 1, 0, 1, 0, 0])
    np.testing.assert_allclose(table[:, 1], [0, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(table[:, 2], [0, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(table[:6, 10], [1 / 2, 1, 1, 1, 1 / 2, 1 / 3])
    assert not np.any(table[6:])
    assert not np.any(table[:, 3])  # no words known
    assert table.shape[1] == features.DENSE
