"""What each modality's instances say of themselves: data sets with placeholders, as templates.

Owns the attributes of types 1 and 2 that PS3.3 asks of each SOP class, so that a strict server takes them; the pixels
are noise, in full range, as their Bits Stored say. The patients are nobody: they have no name, and their ID is the run.
Uses pydicom, which costs 0.2 s to import: only `bulkstow bench` does.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    UltrasoundMultiFrameImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from bulkstow.bench.templates import PLACEHOLDERS, STAMP_BYTES, Gap, Template, cut

IMPLEMENTATION_CLASS_UID = "2.25.183247298523475623984756239847"

FRAME_OF_REFERENCE_UID = PLACEHOLDERS[Gap.STUDY_UID] + ".1"
SPECIMEN_UID = PLACEHOLDERS[Gap.STUDY_UID] + ".2"
DIMENSION_ORGANIZATION_UID = PLACEHOLDERS[Gap.SERIES_UID] + ".1"

SR_PARAGRAPHS = 16
SR_TEXT_BYTES = 460
"""With what is around them 10 KB."""


def template(modality: str, run_tag: str) -> Template:
    """Return the template of a modality of MODALITIES, whose instances carry `run_tag` (64 characters at most)."""
    dataset = _of_nobody(run_tag)
    MODALITIES[modality](dataset)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    head = file.getvalue()
    pixel_bytes = 0
    if "Rows" in dataset:
        frames = int(dataset.get("NumberOfFrames", 1))
        size_bytes = frames * dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
        vr = b"OW" if dataset.BitsAllocated == 16 else b"OB"
        head += struct.pack("<HH2sHI", 0x7FE0, 0x0010, vr, 0, size_bytes) + PLACEHOLDERS[Gap.STAMP].encode("latin-1")
        pixel_bytes = size_bytes - STAMP_BYTES
    return cut(dataset.SOPClassUID, ExplicitVRLittleEndian, head, pixel_bytes=pixel_bytes)


def _of_nobody(run_tag: str) -> Dataset:
    """Return what every modality has: patient, study, series, equipment (PS3.3 §C.7.1 to C.7.5, §C.12.1)."""
    dataset = Dataset()
    dataset.SyntheticData = "YES"
    dataset.SOPInstanceUID = PLACEHOLDERS[Gap.SOP_INSTANCE_UID]
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20260101"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = ""
    dataset.Manufacturer = "bulkstow"
    dataset.InstitutionName = "bulkstow bench"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = run_tag
    dataset.ManufacturerModelName = "bulkstow bench"
    dataset.PatientName = ""
    dataset.PatientID = f"{run_tag}.{PLACEHOLDERS[Gap.PATIENT]}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "0"
    dataset.StudyInstanceUID = PLACEHOLDERS[Gap.STUDY_UID]
    dataset.SeriesInstanceUID = PLACEHOLDERS[Gap.SERIES_UID]
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = PLACEHOLDERS[Gap.NUMBER]
    return dataset


def _grey(dataset: Dataset, rows: int, columns: int, *, is_signed: bool = False) -> None:
    """Add an image of 16 bits a pixel."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(is_signed)


def _colour(dataset: Dataset, rows: int, columns: int, *, frames: int) -> None:
    """Add frames of RGB."""
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0


def _slice(dataset: Dataset, spacing_mm: float) -> None:
    """Add frame of reference and image plane (PS3.3 §C.7.4.1, §C.7.6.2)."""
    dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE_UID
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.SliceThickness = 1
    dataset.ImagePositionPatient = [-100, -100, 0]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [spacing_mm, spacing_mm]
    dataset.AcquisitionNumber = 1


def _mr(dataset: Dataset) -> None:
    dataset.SOPClassUID = MRImageStorage
    dataset.Modality = "MR"
    dataset.BodyPartExamined = "HEAD"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanningSequence = "SE"
    dataset.SequenceVariant = "NONE"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime = 500
    dataset.EchoTime = 15
    dataset.EchoTrainLength = 1
    _slice(dataset, 0.9)
    _grey(dataset, 256, 256)


def _ct(dataset: Dataset) -> None:
    dataset.SOPClassUID = CTImageStorage
    dataset.Modality = "CT"
    dataset.BodyPartExamined = "CHEST"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.KVP = 120
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    _slice(dataset, 0.7)
    _grey(dataset, 512, 512, is_signed=True)


def _cr(dataset: Dataset) -> None:
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.Modality = "CR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImagerPixelSpacing = [0.175, 0.175]
    _grey(dataset, 2000, 2000)


def _mg(dataset: Dataset) -> None:
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.Modality = "MG"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.PatientOrientation = ["A", "R"]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.ImageLaterality = "L"
    dataset.BodyPartExamined = "BREAST"
    dataset.OrganExposed = "BREAST"
    dataset.BreastImplantPresent = "NO"
    dataset.PositionerType = "MAMMOGRAPHIC"
    dataset.DetectorType = "DIRECT"
    dataset.KVP = 28
    dataset.ImagerPixelSpacing = [0.07, 0.07]
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    dataset.RescaleType = "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.WindowCenter = 32768
    dataset.WindowWidth = 65536
    dataset.AnatomicRegionSequence = _code("76752008", "SCT", "Breast")
    dataset.ViewCodeSequence = _code("399162004", "SCT", "cranio-caudal")
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence()
    dataset.AcquisitionContextSequence = Sequence()
    _grey(dataset, 3328, 2704)


def _us(dataset: Dataset) -> None:
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.Modality = "US"
    dataset.BodyPartExamined = "HEART"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientOrientation = ""
    dataset.LossyImageCompression = "00"
    dataset.UltrasoundColorDataPresent = 0
    dataset.FrameTime = 33.3
    dataset.FrameIncrementPointer = 0x00181063
    _colour(dataset, 480, 640, frames=60)


def _wsi(dataset: Dataset) -> None:
    """Fill in a fluorescence slide of 36 x 53 tiles, not compressed (PS3.3 §A.32.8).

    Noise is no JPEG, so native pixels are the honest thing: of these a Value Length of 32 bits holds 4 GiB (PS3.5
    §7.1.2), and this is 1.0 GB. Colour would need an ICC profile.
    """
    across, down, tile = 36, 53, 512
    dataset.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    dataset.Modality = "SM"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.AcquisitionDateTime = "20260101120000"
    dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE_UID
    dataset.PositionReferenceIndicator = "SLIDE_CORNER"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.VolumetricProperties = "VOLUME"
    dataset.ImagedVolumeWidth = across * tile * 0.0005
    dataset.ImagedVolumeHeight = down * tile * 0.0005
    dataset.ImagedVolumeDepth = 1.0
    dataset.TotalPixelMatrixColumns = across * tile
    dataset.TotalPixelMatrixRows = down * tile
    dataset.TotalPixelMatrixFocalPlanes = 1
    dataset.TotalPixelMatrixOriginSequence = _item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    dataset.SpecimenLabelInImage = "NO"
    dataset.FocusMethod = "AUTO"
    dataset.ExtendedDepthOfField = "NO"
    dataset.DimensionOrganizationSequence = _item(DimensionOrganizationUID=DIMENSION_ORGANIZATION_UID)
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.AcquisitionContextSequence = Sequence()
    dataset.NumberOfOpticalPaths = 1
    dataset.NumberOfFrames = across * down
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    _slide(dataset)
    _grey(dataset, tile, tile)


def _slide(dataset: Dataset) -> None:
    """Add specimen, optical path and functional groups (PS3.3 §C.7.6.22, §C.8.12.5, §C.7.6.16)."""
    dataset.ContainerIdentifier = "0"
    dataset.IssuerOfTheContainerIdentifierSequence = Sequence()
    dataset.ContainerTypeCodeSequence = _code("433466003", "SCT", "Microscope slide")
    dataset.SpecimenDescriptionSequence = _item(
        SpecimenIdentifier="0",
        SpecimenUID=SPECIMEN_UID,
        IssuerOfTheSpecimenIdentifierSequence=Sequence(),
        SpecimenPreparationSequence=Sequence(),
    )
    dataset.OpticalPathSequence = _item(
        OpticalPathIdentifier="1",
        IlluminationTypeCodeSequence=_code("111743", "DCM", "Epifluorescence illumination"),
        IlluminationWaveLength=488,
    )
    dataset.SharedFunctionalGroupsSequence = _item(
        PixelMeasuresSequence=_item(SliceThickness=0.001, PixelSpacing=[0.0005, 0.0005]),
        WholeSlideMicroscopyImageFrameTypeSequence=_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
        OpticalPathIdentificationSequence=_item(OpticalPathIdentifier="1"),
    )


def _sr(dataset: Dataset) -> None:
    dataset.SOPClassUID = BasicTextSRStorage
    dataset.Modality = "SR"
    dataset.ReferencedPerformedProcedureStepSequence = Sequence()
    dataset.PerformedProcedureCodeSequence = Sequence()
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = _code("18748-4", "LN", "Diagnostic Imaging Report")
    dataset.ContinuityOfContent = "SEPARATE"
    sentence = "This report was generated by a load tester and is of nobody. "
    text = (sentence * (SR_TEXT_BYTES // len(sentence) + 1))[:SR_TEXT_BYTES]
    finding = _item(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=_code("121071", "DCM", "Finding"),
        TextValue=text,
    )
    dataset.ContentSequence = Sequence([finding[0]] * SR_PARAGRAPHS)


MODALITIES: Mapping[str, Callable[[Dataset], None]] = {
    "mr": _mr,
    "ct": _ct,
    "cr": _cr,
    "mg": _mg,
    "us": _us,
    "wsi": _wsi,
    "sr": _sr,
}


def _item(**attributes: object) -> Sequence:
    """Return a sequence of one item."""
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
