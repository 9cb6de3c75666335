"""The table of sizes in a real window: what is in the mask, and a file of it."""

import csv

from qtpy.QtWidgets import QFileDialog


def test_the_sizes_of_a_mask_are_shown_and_saved(open_hand, picture, monkeypatch, tmp_path) -> None:
    hand = open_hand(picture, rgb=True, stepwise=False)
    hand.click("new_mask")
    layer = hand.widget.image
    layer.scale, layer.units = (0.5, 0.25), ("mm", "mm")
    hand.mask.data[5:9, 5:9] = 1
    hand.mask.data[20:22, 30:31] = 1
    hand.mask.refresh()
    hand.click("sizes")
    table = hand.widget.controller._size_table
    hand.wait(lambda: table.table.rowCount() == 3, "the rows")
    rows = [
        [table.table.item(row, column).text() for column in range(table.table.columnCount())]
        for row in range(3)
    ]
    name = rows[0][1]
    assert rows == [
        ["1", name, "", "18", "2.25", "mm2"],
        ["1", name, "1", "16", "2", "mm2"],
        ["1", name, "2", "2", "0.25", "mm2"],
    ]
    assert table.line.text() == "The mask of image."
    path = tmp_path / "sizes.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    table.save.click()
    with path.open(newline="", encoding="utf-8-sig") as file:
        kept = list(csv.reader(file))
    assert kept[1:] == [["image", *row] for row in rows]

    layer.units = ("pixel", "pixel")
    hand.mask.data[20:22, 30:31] = 0
    hand.click("sizes")
    hand.wait(lambda: table.table.rowCount() == 1, "one row")
    assert table.table.item(0, 4).text() == ""
    assert "only pixels are counted" in table.line.text()
    assert table.table.item(0, 3).text() == "16"
