"""What is known of each published weight file: publisher, licence, hash, converter."""

from dataclasses import dataclass

from facehal.weights.arrays import Converter
from facehal.weights.converters import (
    alexnet,
    inception,
    lpips,
    pieapp,
    resnet50,
    vgg19,
    vgg_face,
)


@dataclass(frozen=True)
class Entry:
    """What is known of one set of published weights.

    Attributes:
        name: how the package and its commands call it.
        what: one line for people.
        licence: of the weights, as published.
        publisher: where the file comes from: an address, or the pip package that ships it.
        file: the publisher's file name.
        sha256: of the publisher's file; a prefix where the publisher gives no more; None where
            the first one is recorded.
        size: of the publisher's file in bytes, about.
        stored: the name of the file in our folder.
        converter: publisher's file (or our own .npz) to arrays; None: used as it is.
        fingerprint: of the converted arrays (`arrays.fingerprint`), where known.
        url: where `get` downloads the file.
        package: the pip package whose folder `models` holds the file, where there is one.
    """

    name: str
    what: str
    licence: str
    publisher: str
    file: str
    size: int
    stored: str
    sha256: str | None = None
    converter: Converter | None = None
    fingerprint: str | None = None
    url: str | None = None
    package: str | None = None


_DLIB_PACKAGE = "face_recognition_models"
LPIPS_PACKAGE = "lpips==0.1.4"

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="alexnet",
            what="AlexNet trunk, ImageNet (torchvision): the features of LPIPS",
            licence="BSD-3-Clause",
            publisher="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            file="alexnet-owt-7be5be79.pth",
            size=244_408_911,
            sha256="7be5be79",
            stored="alexnet.npz",
            converter=alexnet.convert,
            fingerprint="bb3a9ed6d5c00c9746cdc278052d7006cd8ac49c09761b2412e2627804f33406",
        ),
        Entry(
            name="lpips",
            what="LPIPS linear heads for AlexNet, v0.0 and v0.1",
            licence="BSD-2-Clause",
            publisher=f"the pip package {LPIPS_PACKAGE}",
            file="lpips-0.1.4-py3-none-any.whl",
            size=53_763,
            stored="lpips.npz",
            converter=lpips.convert,
            fingerprint="63a618cbed52aa346b92d6fc135017e45b871495a4cddeaeab4b2c13d5db7aa8",
        ),
        Entry(
            name="vgg19",
            what="VGG-19 trunk, ImageNet (torchvision): the features of EdgeConnect's losses",
            licence="BSD-3-Clause",
            publisher="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
            url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
            file="vgg19-dcbb9e9d.pth",
            size=574_673_361,
            sha256="dcbb9e9d",
            stored="vgg19.npz",
            converter=vgg19.convert,
        ),
        Entry(
            name="vgg_face",
            what="VGG-Face (VGG-16, 2622 people) to fc7, 4096-D: the paper's identity loss",
            licence="non-commercial research (Oxford VGG)",
            publisher="https://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/vgg_face_dag.pth",
            url="https://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/vgg_face_dag.pth",
            file="vgg_face_dag.pth (or keras-vggface's rcmalli_vggface_tf_vgg16.h5)",
            size=580_000_000,
            stored="vgg_face.npz",
            converter=vgg_face.convert,
        ),
        Entry(
            name="resnet50_256d",
            what="ResNet-50-256D (VGGFace2): the paper's descriptor for the match score",
            licence="CC BY-SA 4.0, as its data set VGGFace2 (see the publisher)",
            publisher="https://github.com/ox-vgg/vgg_face2",
            url="https://www.robots.ox.ac.uk/~vgg/data/vgg_face2/models/pytorch/"
            "resnet50_256_pytorch.tar.gz",
            file="resnet50_256_pytorch.tar.gz (or the resnet50_256.pth in it)",
            size=97_000_000,
            stored="resnet50_256d.npz",
            converter=resnet50.convert,
        ),
        Entry(
            name="inception",
            what="Inception-v3 of 2015-12-05, 2048-D: the features of FID",
            licence="Apache-2.0",
            publisher="https://github.com/mseitzer/pytorch-fid",
            url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
            file="pt_inception-2015-12-05-6726825d.pth",
            size=95_628_359,
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            stored="inception.npz",
            converter=inception.convert,
        ),
        Entry(
            name="pieapp",
            what="PieAPP v0.1: perceptual error of a picture against its original",
            licence="non-commercial (see https://github.com/prashnani/PerceptualImageError)",
            publisher="https://web.ece.ucsb.edu/~ekta/projects/PieAPPv0.1/weights/PieAPPv0.1.pth",
            # piq's copy: the authors' own download script has to skip the certificate's check.
            url="https://github.com/photosynthesis-team/piq/releases/download/v0.5.4/"
            "PieAPPv0.1.pth",
            file="PieAPPv0.1.pth",
            size=273_500_000,
            stored="pieapp.npz",
            converter=pieapp.convert,
        ),
        Entry(
            name="dlib_resnet",
            what="dlib's face descriptor, 128-D: identity loss of every install",
            licence="CC0-1.0",
            publisher=f"the pip package {_DLIB_PACKAGE}",
            file="dlib_face_recognition_resnet_model_v1.dat",
            size=22_466_066,
            sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            stored="dlib_face_recognition_resnet_model_v1.dat",
            package=_DLIB_PACKAGE,
        ),
        Entry(
            name="dlib_landmarks",
            what="dlib's 68 face landmarks (iBUG 300-W)",
            licence="non-commercial (iBUG 300-W)",
            publisher=f"the pip package {_DLIB_PACKAGE}",
            file="shape_predictor_68_face_landmarks.dat",
            size=99_693_937,
            sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
            stored="shape_predictor_68_face_landmarks.dat",
            package=_DLIB_PACKAGE,
        ),
    )
}
