"""What `searcher predict` writes as GeoJSON comes back as the same label map when it is taken for annotations."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_maps import mapped
from PIL import Image

from searcher.data_pipeline import open_dataset
from searcher.prediction.geojson import write_geojson


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.sampled_from([(1, 9), (17, 23), (40, 31)]))
def test_same_labels(tmp_path, seed, num_objects, size):
    found = np.random.default_rng(seed).integers(0, num_objects + 1, size)
    labels = np.unique(found, return_inverse=True)[1].reshape(size).astype(np.int32)
    if found.min() > 0:
        labels += 1
    if labels.max() == 0:
        return
    for folder in ("images", "geojson"):
        (tmp_path / folder).mkdir(exist_ok=True)
    Image.new("RGB", size[::-1]).save(tmp_path / "images" / "a.png")
    boxes = []
    for number in range(1, labels.max() + 1):
        rows, columns = np.nonzero(labels == number)
        boxes.append((rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1))
    table = dict(
        zip(("bbox_y_px", "bbox_x_px", "bbox_height_px", "bbox_width_px"), np.array(boxes).T, strict=True)
    )
    with mapped(labels, tmp_path) as label_map:
        write_geojson(tmp_path / "geojson" / "a.geojson", label_map, table, "gland")
    np.testing.assert_array_equal(open_dataset(tmp_path).read(0)[1], labels)
