"""Folders of any size: images found, some loaded while others are computed, results kept.

- `pipeline`, `schedule`: the threads, which know nothing of images, and what they do next.
- `job`: how an image is loaded, and a batch computed.
- `sources`: paths from files, directories, patterns and lists, one at a time.
- `formats`: a result as a line of JSON, CSV or TSV, and back.
- `outputs`: files of results that are complete after every image, so that a run can be resumed.
- `resumed`: whether a file that is continued was begun by the same run.
- `parquet`: such a file made into Parquet.
- `printed`: results on stdout instead.
- `run`: a stream of results into an output, with progress.
"""
