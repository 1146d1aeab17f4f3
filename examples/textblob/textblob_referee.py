"""Judge a reply's sentiment by another word list than VADER's: TextBlob's polarity, from -1 to 1.

    dvc exp run -S referee.function_path=examples/textblob -S referee.function=textblob_referee:polarity

Its lexicon is that of the library pattern: adjectives and adverbs, made by others and in another way than VADER's, so
that words which only one of the two likes win with one of them alone. It needs the package textblob
(`pip install 'rlhf-pipeline[real]'`).
"""


def polarity(prompts: list[str], responses: list[str]) -> list[float]:
    """Score each reply by itself."""
    from textblob import TextBlob

    return [float(TextBlob(response).sentiment.polarity) for response in responses]
