//! Requests of the clouds: those of AWS as botocore 1.43 sends them, the others as their references have them.

use writ_core::Reason;

/// Requests as clients send them, and what they are.
pub(crate) const REQUESTS: &[(&str, &str)] = &[
    // AWS, forms.
    (
        "POST sts.eu-central-1.amazonaws.com/\ncontent-type: application/x-www-form-urlencoded; charset=utf-8\n\n\
         Action=GetCallerIdentity&Version=2011-06-15",
        "read aws-sts/caller.read",
    ),
    ("GET sts.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15", "read aws-sts/caller.read"),
    (
        "POST sts.eu-central-1.amazonaws.com/\ncontent-type: application/x-www-form-urlencoded; charset=utf-8\n\n\
         Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fr&RoleSessionName=sess",
        "execute aws-sts/role.assume role=arn:aws:iam::123456789012:role/r session=sess",
    ),
    (
        "POST ec2.eu-central-1.amazonaws.com/\ncontent-type: application/x-www-form-urlencoded; charset=utf-8\n\n\
         Action=RunInstances&Version=2016-11-15&ImageId=ami-1&InstanceType=t3.micro&MinCount=1&MaxCount=2&\
         IamInstanceProfile.Name=p&ClientToken=8a00e85e-1663-4a51-b514-6435834726ed",
        "execute aws-ec2/instances.run count=2 image=ami-1 kind=t3.micro profile=p",
    ),
    (
        "POST ec2.eu-central-1.amazonaws.com/\ncontent-type: application/x-www-form-urlencoded; charset=utf-8\n\n\
         Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.2=i-2",
        "delete aws-ec2/instances.terminate instances=[\"i-1\",\"i-2\"]",
    ),
    (
        "GET ec2.eu-central-1.amazonaws.com/?Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1",
        "delete aws-ec2/instances.terminate instances=[\"i-1\"]",
    ),
    (
        "POST ec2.eu-central-1.amazonaws.com/\ncontent-type: application/x-www-form-urlencoded; charset=utf-8\n\n\
         Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-1&Filter.1.Name=n&Filter.1.Value.1=v",
        "read aws-ec2/instances.list instances=[\"i-1\"]",
    ),
    (
        "POST ec2.eu-central-1.amazonaws.com/\ncontent-type: application/x-www-form-urlencoded; charset=utf-8\n\n\
         Action=AuthorizeSecurityGroupIngress&Version=2016-11-15&GroupId=sg-1&IpPermissions.1.IpProtocol=tcp&\
         IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=22&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0%2F0",
        "write aws-ec2/group.ingress.allow group=sg-1",
    ),
    // AWS, JSON with a target.
    (
        "POST dynamodb.eu-central-1.amazonaws.com/\ncontent-type: application/x-amz-json-1.0\n\
         x-amz-target: DynamoDB_20120810.GetItem\n\n{\"TableName\": \"t\", \"Key\": {\"id\": {\"S\": \"1\"}}}",
        "read aws-dynamodb/item.read table=t",
    ),
    (
        "POST dynamodb.eu-central-1.amazonaws.com/\ncontent-type: application/x-amz-json-1.0\n\
         x-amz-target: DynamoDB_20120810.BatchWriteItem\n\n{\"RequestItems\": {\"t\": [], \"u\": []}}",
        "write aws-dynamodb/items.write tables=[\"t\",\"u\"]",
    ),
    (
        "POST dynamodb.eu-central-1.amazonaws.com/\ncontent-type: application/x-amz-json-1.0\n\
         x-amz-target: DynamoDB_20120810.ListTables\n\n{}",
        "read aws-dynamodb/tables.list",
    ),
    (
        "POST secretsmanager.eu-central-1.amazonaws.com/\ncontent-type: application/x-amz-json-1.1\n\
         x-amz-target: secretsmanager.GetSecretValue\n\n{\"SecretId\": \"db\"}",
        "execute aws-secretsmanager/value.read secret=db",
    ),
    (
        "POST secretsmanager.eu-central-1.amazonaws.com/\ncontent-type: application/x-amz-json-1.1\n\
         x-amz-target: secretsmanager.DeleteSecret\n\n{\"SecretId\": \"db\", \"ForceDeleteWithoutRecovery\": true}",
        "delete aws-secretsmanager/secret.delete forced=true secret=db",
    ),
    // AWS, REST with JSON.
    (
        "POST lambda.eu-central-1.amazonaws.com/2015-03-31/functions/f/invocations?Qualifier=live\n\
         x-amz-invocation-type: Event\n\n{}",
        "execute aws-lambda/function.invoke function=f kind=Event qualifier=live",
    ),
    (
        "POST lambda.eu-central-1.amazonaws.com/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A1%3Afunction%3Af/invocations\n{}",
        "execute aws-lambda/function.invoke function=arn:aws:lambda:eu-central-1:1:function:f",
    ),
    (
        "PUT lambda.eu-central-1.amazonaws.com/2015-03-31/functions/f/configuration\n{\"Role\": \"rrr\"}",
        "write aws-lambda/configuration.write function=f role=rrr",
    ),
    (
        "POST lambda.eu-central-1.amazonaws.com/2015-03-31/functions/f/policy\n\
         {\"StatementId\": \"s\", \"Action\": \"lambda:InvokeFunction\", \"Principal\": \"*\"}",
        "write aws-lambda/permission.add action=lambda:InvokeFunction function=f principal=*",
    ),
    (
        "POST bedrock-runtime.eu-central-1.amazonaws.com/model/anthropic.claude-3-sonnet-20240229-v1%3A0/invoke\n{}",
        "execute aws-bedrock/model.invoke model=anthropic.claude-3-sonnet-20240229-v1:0",
    ),
    (
        "POST bedrock-runtime.eu-central-1.amazonaws.com/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Feu.x/converse\n{}",
        "execute aws-bedrock/profile.converse arn=arn:aws:bedrock:eu-central-1:1:inference-profile model=eu.x",
    ),
    // Google.
    (
        "GET storage.googleapis.com/storage/v1/b/bkt/o/a%2Fb%2Fc%20d?alt=media",
        "read google-storage/object.read alt=media bucket=bkt object=a/b/c d",
    ),
    (
        "POST storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=media&name=a%2Fb",
        "write google-storage/object.upload bucket=bkt object=a/b",
    ),
    (
        "POST storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=resumable\n{\"name\": \"a/b\"}",
        "write google-storage/object.upload.start bucket=bkt object=a/b",
    ),
    (
        "POST storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=resumable&name=c\n{\"name\": \"a/b\"}",
        "write google-storage/object.upload.start bucket=bkt object=c",
    ),
    (
        "POST storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=multipart\n\
         content-type: multipart/related; boundary=x\n\n--x",
        "write google-storage/object.upload.parts bucket=bkt",
    ),
    (
        "POST storage.googleapis.com/storage/v1/b/src/o/a%2Fb/rewriteTo/b/dst/o/c",
        "write google-storage/object.copy bucket=dst object=c source=a/b source_bucket=src",
    ),
    (
        "POST compute.googleapis.com/compute/v1/projects/p/zones/z/instances\n{\"name\": \"vm\", \"machineType\": \"m\"}",
        "execute google-compute/instance.create instance=vm kind=m project=p zone=z",
    ),
    (
        "POST compute.googleapis.com/compute/v1/projects/p/global/firewalls\n{\"name\": \"f\", \"sourceRanges\": [\"0.0.0.0/0\"]}",
        "write google-compute/firewall.create firewall=f project=p sources=[\"0.0.0.0/0\"]",
    ),
    (
        "GET secretmanager.googleapis.com/v1/projects/p/secrets/db/versions/latest:access",
        "execute google-secretmanager/version.access project=p secret=db version=latest",
    ),
    (
        "POST iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/ci@p.iam.gserviceaccount.com:generateAccessToken\n\
         {\"scope\": [\"https://www.googleapis.com/auth/cloud-platform\"]}",
        "execute google-iamcredentials/access-token.create account=ci@p.iam.gserviceaccount.com \
         scopes=[\"https://www.googleapis.com/auth/cloud-platform\"]",
    ),
    (
        "POST europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/publishers/google/models/\
         gemini-2.5-pro:streamGenerateContent?alt=sse\n{}",
        "execute google-vertex/content.generate location=europe-west4 model=gemini-2.5-pro project=p publisher=google",
    ),
    (
        "POST bigquery.googleapis.com/bigquery/v2/projects/p/queries\n{\"query\": \"SELECT 1\", \"useLegacySql\": false}",
        "execute google-bigquery/query.run project=p query=SELECT 1",
    ),
    (
        "POST bigquery.googleapis.com/bigquery/v2/projects/p/jobs\n{\"configuration\": {\"load\": {}}}",
        "execute google-bigquery/job.create project=p",
    ),
    (
        "DELETE bigquery.googleapis.com/bigquery/v2/projects/p/datasets/d?deleteContents=true",
        "delete google-bigquery/dataset.delete contents=true dataset=d project=p",
    ),
    // Azure.
    (
        "PUT management.azure.com/subscriptions/s/resourcegroups/g?api-version=2024-03-01\n{\"location\": \"westeurope\"}",
        "write azure-management/group.write group=g location=westeurope subscription=s",
    ),
    (
        "POST management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a/listKeys?api-version=2023-05-01",
        "execute azure-management/resource.act action=listKeys group=g kind=storageAccounts name=a provider=Microsoft.Storage subscription=s",
    ),
    (
        "DELETE management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.Sql/servers/a/databases/d?api-version=2023-05-01",
        "delete azure-management/child.delete child=d child_kind=databases group=g kind=servers name=a provider=Microsoft.Sql subscription=s",
    ),
    ("GET acct.blob.core.windows.net/?comp=list", "read azure-blob/containers.list account=acct"),
    (
        "GET acct.blob.core.windows.net/box?restype=container&comp=list&prefix=a%2F",
        "read azure-blob/blobs.list account=acct container=box prefix=a/",
    ),
    (
        "PUT acct.blob.core.windows.net/box/a/b.txt\nx-ms-blob-type: BlockBlob\n\nx",
        "write azure-blob/blob.write account=acct blob=a/b.txt container=box kind=BlockBlob",
    ),
    (
        "PUT acct.blob.core.windows.net/box/b\nx-ms-copy-source: https://other.blob.core.windows.net/c/d\n\nx",
        "write azure-blob/blob.copy account=acct blob=b container=box source=https://other.blob.core.windows.net/c/d",
    ),
    (
        "PUT acct.blob.core.windows.net/box/a/b?comp=block&blockid=AAA%3D\nx-ms-version: 2023-11-03\n\nx",
        "write azure-blob/block.write account=acct blob=a/b block=AAA= container=box",
    ),
    (
        "PUT acct.blob.core.windows.net/box?restype=container&comp=acl\nx-ms-blob-public-access: blob\n\n",
        "write azure-blob/container.acl.write account=acct container=box public=blob",
    ),
    (
        "GET v.vault.azure.net/secrets/db/?api-version=7.4",
        "execute azure-keyvault/secret.read secret=db vault=v",
    ),
    (
        "GET v.vault.azure.net/secrets/db?api-version=7.4",
        "execute azure-keyvault/secret.read secret=db vault=v",
    ),
    (
        "POST v.vault.azure.net/keys/k/1/sign?api-version=7.4\n{\"alg\": \"RS256\", \"value\": \"x\"}",
        "execute azure-keyvault/key.sign algorithm=RS256 key=k vault=v version=1",
    ),
    (
        "POST res.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21\n{}",
        "execute azure-openai/chat.create deployment=gpt resource=res",
    ),
];

/// Requests that are no operation, and why.
pub(crate) const REFUSED: &[(&str, Reason)] = &[
    (
        "POST sts.amazonaws.com/\ncontent-type: application/x-www-form-urlencoded\n\nAction=X&Version=2011-06-15",
        Reason::NoOperation,
    ),
    (
        "POST sts.amazonaws.com/\ncontent-type: application/x-www-form-urlencoded\n\nAction=GetCallerIdentity&Version=2010-01-01",
        Reason::NoOperation,
    ),
    (
        "POST dynamodb.eu-central-1.amazonaws.com/\ncontent-type: application/x-amz-json-1.0\n\
         x-amz-target: DynamoDB_20120810.DeleteEverything\n\n{}",
        Reason::NoOperation,
    ),
    ("POST dynamodb.eu-central-1.amazonaws.com/\n{\"TableName\": \"t\"}", Reason::NoOperation),
    ("POST storage.googleapis.com/batch/storage/v1", Reason::NoOperation),
    ("POST storage.googleapis.com/upload/storage/v1/b/bkt/o?uploadType=media", Reason::ArgumentRefused),
    ("GET storage.googleapis.com/storage/v1/b/bkt/o/a%2F..%2Fb", Reason::AmbiguousRequest),
    ("GET storage.googleapis.com/storage/v1/b/bk%2Ft/o", Reason::AmbiguousRequest),
    ("POST secretmanager.googleapis.com/v1/projects/p/secrets/db:destroyAll", Reason::NoOperation),
    ("GET acct.blob.core.windows.net/file.txt", Reason::NoOperation),
    ("GET acct.blob.core.windows.net/box/b?sv=2023&sig=x", Reason::NoOperation),
    ("POST acct.blob.core.windows.net/?comp=batch", Reason::NoOperation),
    ("GET a.b.blob.core.windows.net/box/b", Reason::NoService),
];

/// What S3 is asked for, in the path's style; each also with the bucket in the host's name.
const S3: &[(&str, &str)] = &[
    ("GET bkt?list-type=2&prefix=a%2F&encoding-type=url", "read aws-s3/objects.list bucket=bkt prefix=a/"),
    ("GET bkt?encoding-type=url", "read aws-s3/objects.list bucket=bkt"),
    ("GET bkt/a/b%20c.txt", "read aws-s3/object.read bucket=bkt key=a/b c.txt"),
    ("GET bkt/a/b?x-id=GetObject&versionId=7", "read aws-s3/object.read bucket=bkt key=a/b version=7"),
    ("HEAD bkt/a/b", "read aws-s3/object.head bucket=bkt key=a/b"),
    ("PUT bkt/a/b\nx-amz-acl: private\n\nx", "write aws-s3/object.write acl=private bucket=bkt key=a/b"),
    (
        "PUT bkt/a/b\nx-amz-copy-source: src/k/e%20y\n\n",
        "write aws-s3/object.copy bucket=bkt key=a/b source=src/k/e y",
    ),
    (
        "PUT bkt/a/b\nx-amz-copy-source: /src/k\n\n",
        "write aws-s3/object.copy bucket=bkt key=a/b source=src/k",
    ),
    ("POST bkt/a/b?uploads", "write aws-s3/upload.start bucket=bkt key=a/b"),
    (
        "PUT bkt/a/b?partNumber=1&uploadId=u\ncontent-encoding: aws-chunked\n\nx",
        "write aws-s3/upload.part bucket=bkt key=a/b part=1 upload=u",
    ),
    (
        "PUT bkt/a/b?partNumber=1&uploadId=u\nx-amz-copy-source: src/k\n\n",
        "write aws-s3/upload.part.copy bucket=bkt key=a/b part=1 source=src/k upload=u",
    ),
    ("POST bkt/a/b?uploadId=u", "write aws-s3/upload.complete bucket=bkt key=a/b upload=u"),
    ("DELETE bkt/a/b?uploadId=u", "delete aws-s3/upload.abort bucket=bkt key=a/b upload=u"),
    ("GET bkt/a/b?uploadId=u", "read aws-s3/upload.parts bucket=bkt key=a/b upload=u"),
    ("POST bkt?delete", "delete aws-s3/objects.delete bucket=bkt"),
    ("DELETE bkt/a/b", "delete aws-s3/object.delete bucket=bkt key=a/b"),
    ("GET bkt?acl", "read aws-s3/bucket.acl.read bucket=bkt"),
    ("GET bkt?acl=", "read aws-s3/bucket.acl.read bucket=bkt"),
    ("PUT bkt?policy", "write aws-s3/bucket.policy.write bucket=bkt"),
    ("PUT bkt?versioning", "write aws-s3/bucket.versioning.write bucket=bkt"),
    ("GET bkt?versions&encoding-type=url", "read aws-s3/versions.list bucket=bkt"),
    ("GET bkt?uploads", "read aws-s3/uploads.list bucket=bkt"),
    ("PUT bkt", "write aws-s3/bucket.create bucket=bkt"),
    ("DELETE bkt", "delete aws-s3/bucket.delete bucket=bkt"),
    ("HEAD bkt", "read aws-s3/bucket.head bucket=bkt"),
    (
        "PUT bkt/a/b?acl\nx-amz-acl: public-read\n\n",
        "write aws-s3/object.acl.write acl=public-read bucket=bkt key=a/b",
    ),
    ("PUT bkt/a/b?tagging", "write aws-s3/object.tags.write bucket=bkt key=a/b"),
    ("POST bkt/a/b?select&select-type=2", "read aws-s3/object.select bucket=bkt key=a/b"),
    ("GET bkt/a/b?attributes", "read aws-s3/object.attributes bucket=bkt key=a/b"),
    ("POST bkt/a/b?restore", "write aws-s3/object.restore bucket=bkt key=a/b"),
    ("PUT bkt?publicAccessBlock", "write aws-s3/bucket.public-access.write bucket=bkt"),
];

/// What is refused in either style.
const S3_REFUSED: &[(&str, Reason)] = &[
    ("GET bkt?acl&policy", Reason::NoOperation),
    ("GET bkt/a?acl=x", Reason::NoOperation),
    ("GET bkt/a?ACL", Reason::NoOperation),
    ("PUT bkt/a?renameObject", Reason::NoOperation),
    ("PUT bkt/a?uploadId=u", Reason::ArgumentRefused),
    ("PUT bkt/a?partNumber=1&uploadId=u&uploadId=v", Reason::AmbiguousRequest),
    ("GET bkt/a?X-Amz-Signature=x", Reason::NoOperation),
    ("PUT bkt/a?x-amz-copy-source=src%2Fk", Reason::NoOperation),
    ("PUT bkt/a\nx-amz-copy-source: src/../other/k\n\n", Reason::AmbiguousRequest),
    ("PUT bkt/a\nx-amz-copy-source: src/k\nx-amz-copy-source: other/k\n\n", Reason::AmbiguousRequest),
    ("PUT bkt/a\nx-amz-copy-source: src/k\nconnection: x-amz-copy-source\n\n", Reason::AmbiguousRequest),
    ("PUT bkt/a\nx_amz_copy_source: src/k\n\nx", Reason::AmbiguousRequest),
    ("PUT bkt/a\nx-amz-grant-read: uri=all\n\nx", Reason::NoOperation),
    ("GET bkt/a//b", Reason::AmbiguousRequest),
    ("GET bkt/a/../b", Reason::AmbiguousRequest),
    ("GET bkt/a%2Fb", Reason::AmbiguousRequest),
    ("GET bkt//", Reason::AmbiguousRequest),
    ("POST bkt", Reason::NoOperation),
];

/// The request with its bucket in the host's name.
fn in_host(request: &str) -> String {
    let (method, rest) = request.split_once(' ').unwrap();
    let (target, more) = rest.split_once('\n').map_or((rest, None), |(target, more)| (target, Some(more)));
    let (bucket, after) = target.split_at(target.find(['/', '?']).unwrap_or(target.len()));
    let slash = if after.starts_with('/') { "" } else { "/" };
    let line = format!("{method} {bucket}.s3.eu-central-1.amazonaws.com{slash}{after}");
    more.map_or(line.clone(), |more| format!("{line}\n{more}"))
}

fn in_path(request: &str) -> String {
    request.replacen(' ', " s3.eu-central-1.amazonaws.com/", 1)
}

#[test]
fn a_bucket_in_the_path_and_one_in_the_host_are_the_same_operation() {
    let catalog = crate::shipped();
    for (request, expected) in S3 {
        for request in [in_path(request), in_host(request)] {
            assert_eq!(crate::ask(&catalog, &request).as_deref(), Ok(*expected), "{request}");
        }
    }
    for (request, reason) in S3_REFUSED {
        for request in [in_path(request), in_host(request)] {
            assert_eq!(crate::ask(&catalog, &request), Err(*reason), "{request}");
        }
    }
    let ask = |request: &str| crate::ask(&catalog, request);
    let s3 = "s3.eu-central-1.amazonaws.com";
    assert_eq!(ask(&format!("GET {s3}/")).as_deref(), Ok("read aws-s3/buckets.list"));
    assert_eq!(ask(&format!("GET {s3}/bkt/")).as_deref(), Ok("read aws-s3/objects.list bucket=bkt"));
    // The bucket is the host's, whatever the path begins with.
    let inner = ask(&format!("GET bkt.{s3}/other/k"));
    assert_eq!(inner.as_deref(), Ok("read aws-s3/object.read bucket=bkt key=other/k"));
    assert_eq!(ask(&format!("GET b.k.t.{s3}/k")), Err(Reason::NoService));
}
